"""The layers of a Gluon block and their arrays, whose axes are in the core's order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import do_conv.gluon  # noqa: F401 - before mxnet, which reads names that this module restores

# isort: split
import mxnet as mx
import numpy as np
from mxnet.gluon import nn
from mxnet.gluon.nn.basic_layers import BatchNorm

from do_conv.adapter import DELTA, SEPARABLE, Description, LayerArray, ModelLayer
from do_conv.core import rules
from do_conv.gluon.arrays import as_given
from do_conv.gluon.base import Composed
from do_conv.gluon.models.classes import is_transposed
from do_conv.gluon.models.structure import named_layers
from do_conv.gluon.plain import first

_CONVOLUTIONS = (
    nn.Conv1D, nn.Conv2D, nn.Conv3D, nn.Conv1DTranspose, nn.Conv2DTranspose, nn.Conv3DTranspose,
)  # fmt: skip
_NORMALIZATION = {
    "gamma": "weight", "beta": "bias", "running_mean": "running_mean", "running_var": "running_var",
}  # fmt: skip


def model_layers(model: Any) -> Iterator[ModelLayer]:
    """Each layer with parameters of its own, a shared one once, in the block's order.

    Raises:
        DOConvError: if a layer has no parameters yet.
    """
    for name, block in named_layers(model):
        description, names = _description(block), {}
        if description is not None and description.kind == "normalization":
            names = _NORMALIZATION
        parameters = {
            names.get(own, own): parameter
            for own, parameter in sorted(block._reg_params.items(), key=_place)
            if parameter is not None and not _is_constant(block, own)
        }
        arrays = {role: _array(block, one) for role, one in parameters.items()}
        if arrays:
            yield ModelLayer(name, description, arrays)


_ORDER = {role: i for i, role in enumerate(("weight", DELTA, SEPARABLE, "bias"))}


def _place(named: tuple[str, Any]) -> int:
    return _ORDER.get(named[0], len(_ORDER))


def _is_constant(block: Any, name: str) -> bool:
    """Whether a normalization stores an array without applying it."""
    return name == "gamma" and isinstance(block, BatchNorm) and block._kwargs["fix_gamma"]


def _description(block: Any) -> Description | None:
    """What a layer is; None if other frameworks have no such layer."""
    kind = block._plain if isinstance(block, Composed) else type(block)
    if kind in _CONVOLUTIONS:
        return _convolution(block)
    if kind is nn.Dense:
        return Description("dense")
    if isinstance(block, BatchNorm):
        return Description("normalization", epsilon=block._kwargs["eps"])
    if kind is nn.LayerNorm:
        return Description("normalization", epsilon=block._epsilon)
    return None


def _convolution(layer: Any) -> Description:
    size, groups = tuple(layer._kwargs["kernel"]), layer._kwargs["num_group"]
    if SEPARABLE in layer._reg_params:
        return Description("separable", size, groups, layer.spec.d_mul)
    kind = "transposed" if is_transposed(layer) else "convolution"
    has_delta = layer._reg_params.get(DELTA) is not None
    return Description(kind, size, groups, layer.spec.d_mul if has_delta else None)


def _array(block: Any, parameter: Any) -> LayerArray:
    rules.built(block.name, parameter._data is not None)

    dtype = np.dtype(parameter.dtype).name

    def read() -> np.ndarray:
        wide = "float32" if dtype == "bfloat16" else dtype
        return np.array(first(parameter).astype(wide).asnumpy())

    def write(array: np.ndarray) -> None:
        # As MXNet's array: a NumPy one cannot be written where a convolution has moved the axes.
        parameter.set_data(as_given(mx.nd.array(array, dtype=parameter.dtype)))

    return LayerArray(tuple(parameter.shape), dtype, read, write)
