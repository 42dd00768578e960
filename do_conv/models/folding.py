"""Folding, as far as it is the same in every framework."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from do_conv.core import rules
from do_conv.models import checks

LayerT = TypeVar("LayerT")
PlainT_co = TypeVar("PlainT_co", covariant=True)


class Folds(Protocol[PlainT_co]):
    """The type of a layer of ours, for type checkers.

    Keras's and Gluon's own classes are untyped: a checker takes any of them for a layer of ours if
    `fold` asks for our base class, and for this protocol only if it has a method `fold`.
    """

    def fold(self, *, check_finite: bool = True) -> PlainT_co:
        """The plain layer that does the same."""


def check_foldable(
    layers: Sequence[LayerT],
    kind: str,
    arrays: Callable[[LayerT], Mapping[str, Any]],
    is_finite: Callable[[Any], bool] | None,
) -> None:
    """Refuse a model that cannot be folded, before anything is changed.

    Args:
        layers: the layers of ours in the model.
        kind: the model's class.
        arrays: gives a layer's kernel and bias, which may be None; it raises if the layer has no
            parameters yet.
        is_finite: whether an array has neither NaN nor infinity; None to fold any values.

    Raises:
        DOConvError: if there is no layer of ours, one has no parameters yet, or an array is not
            finite.
    """
    checks.something_to_fold(len(layers), kind)
    for layer in layers:
        for name, array in arrays(layer).items():
            if is_finite is not None and array is not None:
                rules.finite(name, is_finite(array))
