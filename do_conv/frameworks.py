"""The frameworks that have a backend.

A new framework is a package with an `adapter.py` (see `do_conv.adapter`), and a line in `BACKENDS`.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from do_conv.adapter import Adapter
from do_conv.core import rules
from do_conv.models import checks


@dataclass(frozen=True)
class Backend:
    """Where a framework is, and where its backend.

    Attributes:
        home: the package that the classes of the framework's models come from.
        package: the backend's package.
    """

    home: str
    package: str


BACKENDS = {
    "torch": Backend("torch", "do_conv.torch"),
    "keras": Backend("keras", "do_conv.tf"),
    "gluon": Backend("mxnet", "do_conv.gluon"),
}


def adapter(framework: str) -> Adapter:
    """The adapter of a framework.

    Raises:
        DOConvError: if there is no framework of that name.
        MissingFrameworkError: if it is not installed.
    """
    package = BACKENDS[rules.known_name("framework", framework, BACKENDS)].package
    module: Any = importlib.import_module(f"{package}.adapter")
    return module


def of(model: Any) -> str:
    """The name of the framework that a model is of.

    Raises:
        DOConvError: if it is a model of no framework.
    """
    homes = [base.__module__.partition(".")[0] for base in type(model).__mro__]
    names = {backend.home: name for name, backend in BACKENDS.items()}
    found = next((names[home] for home in homes if home in names), None)
    return checks.known_backend(found, type(model).__name__)


def backend(model: Any) -> Any:
    """The package that converts a model: `do_conv.torch`, `do_conv.tf` or `do_conv.gluon`.

    Raises:
        DOConvError: if it is a model of no framework.
    """
    return importlib.import_module(BACKENDS[of(model)].package)
