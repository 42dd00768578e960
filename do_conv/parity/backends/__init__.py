"""The cases and the training run in each framework: one module each, with the same five names.

versions()                        what is measured, for the report
not_offered(case)                 why the framework's own layer cannot do a case, or None
offers_features(case)             whether our layer has feature composition in a case
layer_results(case, arrays)       the quantities of a case, in the core's layout
train(run)                        the parameters after a training run, in the core's layout
"""

from __future__ import annotations

import importlib
from typing import Any, Protocol

from do_conv.core import rules
from do_conv.parity.cases import Case
from do_conv.parity.layer import Arrays, Results
from do_conv.parity.training import Parameters, Run

FRAMEWORKS = ("torch", "keras", "gluon")


class Backend(Protocol):
    """What a module of this package has."""

    def versions(self) -> str: ...  # noqa: D102
    def not_offered(self, case: Case) -> str | None: ...  # noqa: D102
    def offers_features(self, case: Case) -> bool: ...  # noqa: D102
    def layer_results(self, case: Case, given: Arrays) -> Results: ...  # noqa: D102
    def train(self, run: Run) -> Parameters: ...  # noqa: D102


def load(framework: str) -> Backend:
    """The module of a framework.

    Raises:
        DOConvError: if there is no framework of that name.
        MissingFrameworkError: if it is not installed.
    """
    module: Any = importlib.import_module(
        f"do_conv.parity.backends.{rules.known_name('framework', framework, FRAMEWORKS)}"
    )
    return module
