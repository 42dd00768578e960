"""Whether two networks do the same: the proof after converting, folding or loading weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mxnet as mx
import numpy as np
from mxnet import autograd

from do_conv.gluon.models.copies import copied
from do_conv.gluon.models.structure import named_layers
from do_conv.models.comparison import Inside, agreement, flattened


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

    def inside() -> tuple[Inside, Inside]:
        first, second = (_inside(copied(model)[0], inputs) for model in (before, after))
        return first, second

    seed = int(mx.nd.random.randint(0, 2**31 - 1).asscalar())
    try:
        first, second = (_outputs(copied(model)[0], inputs) for model in (before, after))
        return agreement(first, second, tolerance, inside)
    finally:
        mx.random.seed(seed)


def _outputs(model: Any, inputs: tuple[Any, ...]) -> list[np.ndarray]:
    """The arrays that a network gives."""
    mx.random.seed(0)
    with autograd.pause(train_mode=False):
        return list(_arrays(model(*inputs)))


def _inside(model: Any, inputs: tuple[Any, ...]) -> Inside:
    """The first array that each layer gives, in the order they come."""
    seen: dict[str, np.ndarray] = {}

    def keep(name: str, out: Any) -> None:
        if name not in seen:  # the first time that a layer runs
            seen[name] = next(_arrays(out), np.zeros(0))

    for name, block in named_layers(model):
        block._active = False
        if name:
            block.register_forward_hook(lambda _block, _given, out, name=name: keep(name, out))
    _outputs(model, inputs)
    return seen


def _arrays(value: Any) -> Iterator[np.ndarray]:
    """The arrays in what a network gives."""
    for array in flattened(value, lambda item: isinstance(item, mx.nd.NDArray)):
        yield array.asnumpy()
