"""Compare the outputs of two models, and find the first layer that differs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from do_conv.core.errors import broken

# The first output of each layer inside a model, by the layer's name, in the order of the calls.
Inside = Mapping[str, np.ndarray]


def flattened(
    value: Any, is_array: Callable[[Any], bool], around: frozenset[int] = frozenset()
) -> Iterator[Any]:
    """The arrays in a model's output: alone, in mappings, sequences, sets, and data classes.

    Args:
        value: the output.
        is_array: whether a value is an array.
        around: the ids of what holds it, which it may hold in turn.
    """
    if is_array(value):
        yield value
    elif id(value) not in around:
        for item in _items(value):
            yield from flattened(item, is_array, around | {id(value)})


def held(value: Any, is_array: Callable[[Any], bool], seen: set[int]) -> Iterator[Any]:
    """The arrays that a value holds, looking once into what is held in several places.

    Containers that all hold each other are not followed along each of their ways.
    """
    if is_array(value):
        yield value
    elif id(value) not in seen:
        seen.add(id(value))
        for item in _items(value):
            yield from held(item, is_array, seen)


def _items(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return value.values()
    if isinstance(value, (tuple, list, set, frozenset)):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, one.name, None) for one in dataclasses.fields(value)]
    return ()


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
            Also if neither model gives an array: that would prove nothing.
    """
    if not before and not after:
        raise broken(
            "a model to compare must give arrays, alone or in tuples, lists, sets, mappings and "
            "data classes",
            "two models that give none",
            "wrap both models in one that returns their arrays",
        )
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
