"""The layers of a Gluon block and their arrays, whose axes are in the core's order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
from do_conv.gluon.optimizer import DOConvTrainer
from do_conv.gluon.optimizer.kernels import TrainedKernel
from do_conv.gluon.plain import first

_CONVOLUTIONS = (
    nn.Conv1D, nn.Conv2D, nn.Conv3D, nn.Conv1DTranspose, nn.Conv2DTranspose, nn.Conv3DTranspose,
)  # fmt: skip
# The core's names of arrays, for Gluon's.
_NAMES = {
    "normalization": {"gamma": "weight", "beta": "bias"},
    "prelu": {"alpha": "weight"},
}


def model_layers(model: Any) -> Iterator[ModelLayer]:
    """Each layer with parameters of its own, a shared one once, in the block's order.

    Of a `DOConvTrainer`, the layers of its network; a kernel's are W and D'. Whatever is written to
    one of them composes the kernel. Kernels inside of a graph belong to no layer.

    Raises:
        DOConvError: if a layer has no parameters yet.
    """
    kernels: dict[Any, TrainedKernel] = {}
    if isinstance(model, DOConvTrainer):
        kernels = {kernel.parameter: kernel for kernel in model.kernels.values()}
        model = model.net
    for name, block in named_layers(model):
        description = _description(block)
        names = {} if description is None else _NAMES.get(description.kind, {})
        parameters = {
            names.get(own, own): parameter
            for own, parameter in sorted(block._reg_params.items(), key=_place)
            if parameter is not None and not _is_constant(block, own)
        }
        own_names = {role: own for own, role in names.items()}
        arrays = {
            role: _array(block, one, own_names.get(role, role)) for role, one in parameters.items()
        }
        if (kernel := kernels.get(parameters.get("weight"))) is not None:
            description = _convolution(block, kernel.spec.d_mul)
            arrays = _parts(block, kernel) | {k: v for k, v in arrays.items() if k != "weight"}
        if arrays:
            yield ModelLayer(name, description, arrays)


def _parts(block: Any, kernel: TrainedKernel) -> dict[str, LayerArray]:
    return {name: _array(block, part, name, kernel.compose) for name, part in kernel.parts}


_ORDER = {role: i for i, role in enumerate(("weight", DELTA, SEPARABLE, "bias"))}


def _place(named: tuple[str, Any]) -> int:
    return _ORDER.get(named[0], len(_ORDER))


def _is_constant(block: Any, name: str) -> bool:
    """Whether a normalization stores an array without applying it."""
    return name == "gamma" and isinstance(block, BatchNorm) and block._kwargs["fix_gamma"]


def _description(block: Any) -> Description | None:
    """The description of a layer; None if other frameworks have no such layer."""
    kind = block._plain if isinstance(block, Composed) else type(block)
    if kind in _CONVOLUTIONS:
        has_delta = block._reg_params.get(DELTA) is not None
        return _convolution(block, block.spec.d_mul if has_delta else None)
    if kind is nn.Dense:
        return Description("dense")
    if kind is nn.PReLU:
        return Description("prelu")
    if isinstance(block, BatchNorm):
        return Description("normalization", epsilon=block._kwargs["eps"])
    if kind is nn.LayerNorm:
        return Description("normalization", epsilon=block._epsilon)
    return None


def _convolution(layer: Any, d_mul: int | None) -> Description:
    size, groups = tuple(layer._kwargs["kernel"]), layer._kwargs["num_group"]
    if SEPARABLE in layer._reg_params:
        return Description("separable", size, groups, layer.spec.d_mul)
    kind = "transposed" if is_transposed(layer) else "convolution"
    return Description(kind, size, groups, d_mul)


def _array(
    block: Any, parameter: Any, own: str, then: Callable[[], None] = lambda: None
) -> LayerArray:
    rules.built(block.name, parameter._data is not None)

    dtype = np.dtype(parameter.dtype).name

    def read() -> np.ndarray:
        wide = "float32" if dtype == "bfloat16" else dtype
        return np.array(first(parameter).astype(wide).asnumpy())

    def write(array: np.ndarray) -> None:
        # As an MXNet array: NumPy cannot write an array whose axes a convolution has reordered.
        parameter.set_data(as_given(mx.nd.array(array, dtype=parameter.dtype)))
        then()

    shape = tuple(parameter.shape)
    return LayerArray(shape, dtype, read, write, own=(own, shape))
