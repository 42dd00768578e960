"""Compare the outputs of two models, and find the first layer that differs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from do_conv.core.errors import broken

# The first output of each layer inside a model, by the layer's name, in the order of the calls.
Inside = Mapping[str, np.ndarray]


def flattened(value: Any, is_array: Callable[[Any], bool]) -> Iterator[Any]:
    """The arrays in a model's output: alone, in mappings, in sequences."""
    if is_array(value):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from flattened(item, is_array)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from flattened(item, is_array)


def difference(before: np.ndarray, after: np.ndarray) -> float:
    """The largest difference, relative to the largest value of `before`.

    Infinite for different shapes, and with NaN or infinity.
    """
    if before.shape != after.shape:
        return math.inf
    if not before.size:
        return 0.0
    wide, other = (a.astype(complex if a.dtype.kind == "c" else float) for a in (before, after))
    with np.errstate(invalid="ignore"):
        apart = float(abs(wide - other).max())
    scale = float(abs(wide).max())
    relative = apart / scale if scale else apart
    return relative if math.isfinite(relative) else math.inf


def largest_difference(before: Sequence[np.ndarray], after: Sequence[np.ndarray]) -> float:
    """The largest of the differences; infinite if one side has more arrays."""
    if len(before) != len(after):
        return math.inf
    return max(map(difference, before, after), default=0.0)


def first_apart(before: Inside, after: Inside, tolerance: float) -> str | None:
    """The first layer of both models whose outputs differ, in the order of `before`."""
    common = (name for name in before if name in after)
    return next((n for n in common if not difference(before[n], after[n]) <= tolerance), None)


def agreement(
    before: Sequence[np.ndarray],
    after: Sequence[np.ndarray],
    tolerance: float,
    inside: Callable[[], tuple[Inside, Inside]],
    remedy: str | None = None,
) -> float:
    """Check that the outputs of two models agree within a tolerance.

    Args:
        before, after: their outputs.
        tolerance: the largest difference allowed, relative to the largest value of `before`.
        inside: gives the outputs of the layers of both; called if the outputs differ.
        remedy: how to leave training mode, if a model was run in it.

    Returns:
        the largest relative difference.

    Raises:
        DOConvError: if it is above the tolerance; the message names the first layer that differs.
    """
    apart = largest_difference(before, after)
    if apart <= tolerance:
        return apart
    where = first_apart(*inside(), tolerance)
    if math.isfinite(apart):
        received = f"a difference of {apart:.1e}"
    else:
        received = "outputs of other shapes, or with NaN or infinity"
    received += f", which begins in layer '{where}'" if where else ""
    look = f"look at layer '{where}' of both" if where else "compare their layers and weights"
    raise broken(
        f"two models must give the same outputs, within {tolerance:g} of the largest value",
        received + (", from models in training mode" if remedy else ""),
        remedy or look,
    )
