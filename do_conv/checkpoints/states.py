"""The states of a checkpoint: dicts of named tensors, of which layers are read and replaced."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from do_conv.checkpoints import checks
from do_conv.checkpoints.formats import Checkpoint, Format
from do_conv.core.errors import broken
from do_conv.core.spec import Shape


def shapes(state: Mapping[str, Any], format: Format) -> dict[str, Shape]:
    """The shape of each tensor that has a name; a state may hold other things, too."""
    named = {name: format.shape(item) for name, item in state.items() if isinstance(name, str)}
    return {name: shape for name, shape in named.items() if shape is not None}


def numbers(checkpoint: Checkpoint, format: Format) -> tuple[int, int]:
    """The number of named tensors, and of the values in them."""
    shapes = [format.shape(tensor) for state in checkpoint.states for tensor in state.values()]
    sizes = [math.prod(shape) for shape in shapes if shape is not None]
    return len(sizes), sum(sizes)


def array(state: Mapping[str, Any], key: str, layer: str, format: Format) -> np.ndarray:
    """A tensor of a layer, in float32 or float64.

    Raises:
        DOConvError: if it is not dense and floating-point.
    """
    tensor = state[key]
    values = format.array(tensor)
    if values is None:
        dtype = getattr(tensor, "dtype", type(tensor).__name__)
        checks.layer_dtype(layer, f"{key} of dtype {dtype}")
    return values


def check_finite(tensor: Any, layer: str, role: str, format: Format) -> None:
    """Refuse a tensor to be written that holds NaN or infinity in its own dtype.

    Raises:
        DOConvError: if it does.
    """
    values = format.array(tensor)
    checks.layer_finite(layer, role, values is not None and bool(np.isfinite(values).all()))


def replace(
    state: dict[str, Any], layer: str, keys: Collection[str], tensors: Mapping[str, Any]
) -> None:
    """Put tensors where the first tensor of a layer stood, in the order of the state.

    Args:
        state: changed in place.
        layer: the layer's name.
        keys: the names of the layer's tensors, which are removed.
        tensors: what takes their place, by name.

    Raises:
        DOConvError: if a name is that of another tensor.
    """
    taken = (set(tensors) - set(keys)) & set(state)
    if taken:
        raise broken(
            "the names of a new layer's arrays must be free in the checkpoint",
            f"layer '{layer}', for which {sorted(taken)} are taken",
            "rename these, or fold the model and save it",
        )
    entries = list(state.items())
    state.clear()
    for key, tensor in entries:
        if key not in keys:
            state[key] = tensor
        else:
            state.update(tensors)
            tensors = {}
