"""Which framework a model is of, and what serves it there."""

from __future__ import annotations

import importlib
from typing import Any

from do_conv.core import rules

# Where the classes of a framework's models come from, and what converts them.
_BACKENDS = {"torch": "do_conv.torch", "keras": "do_conv.tf", "mxnet": "do_conv.gluon"}


def backend(model: Any) -> Any:
    """What converts a model: `do_conv.torch`, `do_conv.tf` or `do_conv.gluon`.

    Raises:
        DOConvError: if it is a model of no framework.
    """
    homes = [base.__module__.partition(".")[0] for base in type(model).__mro__]
    found = next((_BACKENDS[home] for home in homes if home in _BACKENDS), None)
    return importlib.import_module(rules.known_backend(found, type(model).__name__))


def in_own_order(model: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape `(N, C, *size)` of a batch, with its axes in the order the model takes them.

    Raises:
        DOConvError: if it is a model of no framework.
    """
    planning = importlib.import_module(f"{backend(model).__name__}.models.planning")
    own_order = getattr(planning, "in_own_order", None)  # Keras's: the others have one order
    return shape if own_order is None else tuple(own_order(model, shape))
