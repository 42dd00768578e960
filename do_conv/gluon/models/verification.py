"""Whether two networks do the same: the proof after converting, folding, or carrying weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import mxnet as mx
import numpy as np
from mxnet import autograd

from do_conv.core import rules
from do_conv.gluon.models.copies import copied, named_blocks


def verify(before: Any, after: Any, *inputs: Any, tolerance: float = 1e-5) -> float:
    """Run both networks on the inputs and compare what they give.

    Each is run as in evaluation, hybridized if it is, with the same random numbers, on a copy; so
    nothing in it changes. MXNet's random numbers go on from another place afterwards.

    Args:
        before, after: two blocks, such as a network and its conversion.
        inputs: what both are called with.
        tolerance: the largest difference allowed, relative to the largest value of `before`.

    Returns:
        the largest relative difference.

    Raises:
        DOConvError: if it is above the tolerance; the message says where it begins, by the names
            of parameter files, and how large it is. Inside a hybridized network there is nothing
            to be seen: it is run once more without its graph, and if the difference is the
            graph's, no layer is named.
    """
    seed = int(mx.nd.random.randint(0, 2**31 - 1).asscalar())
    try:
        found = [_outputs(copied(model)[0], inputs) for model in (before, after)]
        as_many = len(found[0]) == len(found[1])
        difference = max(map(_difference, *found), default=0.0) if as_many else math.inf
        if not difference <= tolerance:
            inside = [_inside(copied(model)[0], inputs) for model in (before, after)]
            where = _first_apart(inside[0], inside[1], tolerance)
            raise rules.differing(difference, tolerance, where, training=False)
    finally:
        mx.random.seed(seed)
    return difference


def _outputs(model: Any, inputs: tuple[Any, ...]) -> list[Any]:
    """The arrays that a network gives."""
    mx.random.seed(0)
    with autograd.pause(train_mode=False):
        return [array.asnumpy() for array in _arrays(model(*inputs))]


def _inside(model: Any, inputs: tuple[Any, ...]) -> dict[str, Any]:
    """The first array that each layer gives, in the order they come."""
    seen: dict[str, Any] = {}
    for name, block in named_blocks(model):
        block._active = False
        if name:
            block.register_forward_hook(
                lambda _block, _given, out, name=name: seen.update(
                    {name: next(_arrays(out), mx.nd.zeros(1)).asnumpy()}
                )
            )
    _outputs(model, inputs)
    return seen


def _first_apart(before: dict[str, Any], after: dict[str, Any], tolerance: float) -> str | None:
    common = (name for name in before if name in after)
    apart = (n for n in common if not _difference(before[n], after[n]) <= tolerance)
    return next(apart, None)


def _arrays(value: Any) -> Iterator[Any]:
    """The arrays in what a network gives: alone, in sequences, in mappings."""
    if isinstance(value, mx.nd.NDArray):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _arrays(one)
    elif isinstance(value, (tuple, list)):
        for one in value:
            yield from _arrays(one)


def _difference(before: Any, after: Any) -> float:
    """The largest difference, relative to the largest value of `before`; NaN counts as infinite."""
    if before.shape != after.shape:
        return math.inf
    if not before.size:
        return 0.0
    wide = before.astype(np.float64), after.astype(np.float64)
    difference, scale = float(abs(wide[0] - wide[1]).max()), float(abs(wide[0]).max())
    relative = difference / scale if scale else difference
    return math.inf if math.isnan(relative) else relative
