"""Initializers, regularizers and constraints of a plain kernel, for a W with D_mul slots."""

from __future__ import annotations

from typing import Any

from keras import ops

from do_conv.core.spec import Spec


class OfPlainKernel:
    """A function of a plain kernel, `(*K, ...)`, that is given W, `(D_mul, ...)`.

    The function sees W's slots along the first spatial axis, and one position along the others: a
    norm over the axes of *K and the input channels is the same one, of the filter of an output
    channel.
    """

    def __init__(self, function: Any, spec: Spec) -> None:
        self.function, self._ones = function, (1,) * (spec.rank - 1)

    def _plain_axes(self, shape: Any) -> tuple[int, ...]:
        return (shape[0], *self._ones, *shape[1:])


class OfPlainShape(OfPlainKernel):
    """An initializer."""

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        """The values of W."""
        return ops.reshape(self.function(self._plain_axes(shape), dtype=dtype), shape)


class OfPlainValues(OfPlainKernel):
    """A constraint, which gives another W, or a regularizer, which gives a number."""

    def __call__(self, weight: Any) -> Any:
        """Another W, or a number."""
        shape = tuple(weight.shape)
        found = self.function(ops.reshape(weight, self._plain_axes(shape)))
        return ops.reshape(found, shape) if len(found.shape) else found


def like_plain(function: Any, spec: Spec, kind: type[OfPlainKernel] = OfPlainValues) -> Any:
    """A function of the plain kernel as one of W; None stays."""
    return function if function is None or spec.has_plain_weight else kind(function, spec)
