"""Whether two models gave the same: how far their outputs are apart, and where that begins."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from do_conv.models import checks

# What each layer inside a model gave, by its name, in the order it came.
Inside = Mapping[str, np.ndarray]


def flattened(value: Any, is_array: Callable[[Any], bool]) -> Iterator[Any]:
    """The arrays in what a model gives: alone, in mappings, in sequences."""
    if is_array(value):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from flattened(one, is_array)
    elif isinstance(value, (tuple, list)):
        for one in value:
            yield from flattened(one, is_array)


def difference(before: np.ndarray, after: np.ndarray) -> float:
    """The largest difference, relative to the largest value of `before`.

    Infinite for other shapes, and where there is NaN or infinity.
    """
    if before.shape != after.shape:
        return math.inf
    if not before.size:
        return 0.0
    wide = [one.astype(complex if one.dtype.kind == "c" else float) for one in (before, after)]
    with np.errstate(invalid="ignore"):
        apart = float(abs(wide[0] - wide[1]).max())
    scale = float(abs(wide[0]).max())
    relative = apart / scale if scale else apart
    return relative if math.isfinite(relative) else math.inf


def largest_difference(before: Sequence[np.ndarray], after: Sequence[np.ndarray]) -> float:
    """The largest of the differences; infinite if there are more arrays on one side."""
    if len(before) != len(after):
        return math.inf
    return max(map(difference, before, after), default=0.0)


def first_apart(before: Inside, after: Inside, tolerance: float) -> str | None:
    """The first layer of both models whose outputs are apart, in the order of `before`."""
    common = (name for name in before if name in after)
    return next((n for n in common if not difference(before[n], after[n]) <= tolerance), None)


def agreement(
    before: Sequence[np.ndarray],
    after: Sequence[np.ndarray],
    tolerance: float,
    inside: Callable[[], tuple[Inside, Inside]],
    remedy: str | None = None,
) -> float:
    """The largest difference of what two models give, if it is within the tolerance.

    Args:
        before, after: what they give.
        tolerance: the largest difference allowed, relative to the largest value of `before`.
        inside: gives what the layers of both give; called if the outputs are apart.
        remedy: how a person leaves training mode, if a model was run in it.

    Returns:
        the largest relative difference.

    Raises:
        DOConvError: if it is above the tolerance; the message names the layer where it begins.
    """
    found = largest_difference(before, after)
    if not found <= tolerance:
        checks.differing(found, tolerance, first_apart(*inside(), tolerance), remedy)
    return found
