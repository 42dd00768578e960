"""The frameworks that have a backend.

A new framework is a package with an `adapter.py` (see `do_conv.adapter`), and a line in `BACKENDS`.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from do_conv.adapter import Adapter
from do_conv.core import rules
from do_conv.core.errors import broken


@dataclass(frozen=True)
class Backend:
    """A framework and its backend.

    Attributes:
        title: the framework's name in a sentence.
        home: the package that the classes of the framework's models come from.
        package: the backend's package.
        fold_tolerance: how far folding may move a network's outputs, relative to the largest. Eager
            PyTorch runs the same operations before and after; a compiled graph may not.
    """

    title: str
    home: str
    package: str
    fold_tolerance: float = 1e-6


BACKENDS = {
    "torch": Backend("PyTorch", "torch", "do_conv.torch", fold_tolerance=0.0),
    "keras": Backend("Keras", "keras", "do_conv.tf"),
    "gluon": Backend("MXNet Gluon", "mxnet", "do_conv.gluon"),
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
    """The name of a model's framework.

    Raises:
        DOConvError: if it is a model of no framework.
    """
    homes = [base.__module__.partition(".")[0] for base in type(model).__mro__]
    names = {backend.home: name for name, backend in BACKENDS.items()}
    framework = next((names[home] for home in homes if home in names), None)
    if framework is None:
        *titles, last = (backend.title for backend in BACKENDS.values())
        raise broken(
            f"a model must be one of {', '.join(titles)} or {last}",
            f"a {type(model).__name__}",
            "return the network itself",
        )
    return framework


def backend(model: Any) -> Any:
    """The backend's package for a model, such as `do_conv.torch`.

    Raises:
        DOConvError: if it is a model of no framework.
    """
    return importlib.import_module(BACKENDS[of(model)].package)
