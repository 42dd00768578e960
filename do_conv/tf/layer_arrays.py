"""The layers of a Keras model and their arrays, with the axes in the core's order."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from do_conv.adapter import DELTA, SEPARABLE, Description, LayerArray, ModelLayer, array_name
from do_conv.core import layouts, rules
from do_conv.core.spec import SeparableSpec, Spec
from do_conv.tf.base import OverParameterized
from do_conv.tf.composed import Composed
from do_conv.tf.models.classes import CONVOLUTIONS, is_transposed, kernel_of
from do_conv.tf.models.structure import check_model
from do_conv.tf.optimizer import DOConvOptimizer
from do_conv.tf.optimizer.kernels import TrainedKernel

_SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
_DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
_NORMALIZATIONS = {
    layers.BatchNormalization: {
        "weight": "gamma", "bias": "beta", "running_mean": "moving_mean",
        "running_var": "moving_variance",
    },
    layers.LayerNormalization: {"weight": "gamma", "bias": "beta"},
    layers.GroupNormalization: {"weight": "gamma", "bias": "beta"},
}  # fmt: skip

# An array in Keras's order to the core's, and the way back.
Layout = tuple[Callable[[Any], Any], Callable[[Any], Any]]
_SAME: Layout = (lambda array: array, lambda array: array)
_KERNEL: Layout = (layouts.kernel_from_keras, layouts.kernel_to_keras)
_DELTA: Layout = (layouts.delta_from_keras, layouts.delta_to_keras)
_DENSE: Layout = (np.transpose, np.transpose)


@dataclass(frozen=True)
class VariableArray(LayerArray):
    """An array in a variable.

    Attributes:
        variable: where it is, in Keras's order of axes.
        to_core: bring an array of the variable's shape, such as its gradient, to the core's order.
        from_core: the way back.
    """

    variable: Any
    to_core: Callable[[np.ndarray], np.ndarray]
    from_core: Callable[[np.ndarray], np.ndarray]


def model_layers(model: Any) -> Iterator[ModelLayer]:
    """Each layer with variables of its own, a shared one once, in the model's order.

    A separable layer with a kernel for each of its parts is two: its depthwise part, which may have
    a D', and its pointwise one. Of a `DOConvOptimizer`, the layers of its model; a kernel's are W
    and D'. Whatever is written to one of them composes the kernel.

    Raises:
        DOConvError: if a layer or the optimizer has not been built, or it is no model.
    """
    kernels: dict[int, TrainedKernel] = {}
    if isinstance(model, DOConvOptimizer):
        kernels = {id(kernel.parameter): kernel for kernel in model.kernels.values()}
        model = model.trained_model()
    check_model(model)
    seen: set[int] = set()
    for name, layer in _named(model, ""):
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        rules.built(layer.name, layer.built or not _may_have_variables(layer))
        has_kernel = kernels and isinstance(layer, CONVOLUTIONS)
        if has_kernel and (kernel := kernels.get(id(kernel_of(layer)))) is not None:
            yield from _trained(name, layer, kernel)
        else:
            yield from _layers_of(name, layer, _kind(layer))


def _trained(name: str, layer: Any, kernel: TrainedKernel) -> Iterator[ModelLayer]:
    """A plain layer, of any subclass, with W and D' in the place of its kernel."""
    kind = next(base for base in type(layer).__mro__ if base in CONVOLUTIONS)
    first, *others = _layers_of(name, layer, kind)
    weight: Any = first.arrays["weight"]
    layout = weight.to_core, weight.from_core
    parts = {
        "weight": _array(kernel.weight, layout, kernel.compose),
        DELTA: _array(kernel.delta, _DELTA, kernel.compose),
    }
    arrays: list[Any] = [array for one in (first, *others) for array in one.arrays.values()]
    known = {id(array.variable) for array in arrays}
    more = {one.name: _array(one, _SAME) for one in _variables(layer) if id(one) not in known}
    assert first.description is not None
    description = replace(first.description, d_mul=kernel.spec.d_mul)
    yield ModelLayer(first.name, description, {**first.arrays, **parts, **more})
    yield from others


def _named(layer: Any, name: str) -> Iterator[tuple[str, Any]]:
    yield name, layer
    # A model lists its layers in order; other layers list them as they were created.
    own = getattr(layer, "layers", None) if isinstance(layer, keras.Model) else None
    for child in own or layer._flatten_layers(include_self=False, recursive=False):
        yield from _named(child, array_name(name, child.name))


def _may_have_variables(layer: Any) -> bool:
    others = (layers.Dense, layers.PReLU, *_NORMALIZATIONS)
    return isinstance(layer, (*CONVOLUTIONS, *others))


def _kind(layer: Any) -> Any:
    """The plain class of a layer; None if it applies another kernel than it stores."""
    if getattr(layer, "lora_enabled", False) or getattr(layer, "quantization_mode", None):
        return None
    return layer._plain if isinstance(layer, Composed) else type(layer)


def _layers_of(name: str, layer: Any, kind: Any) -> Iterator[ModelLayer]:
    """The arrays of a layer of a plain class, as one layer or, of a separable one, as two."""
    if kind in _SEPARABLE and isinstance(layer, Composed) and not _is_delta(layer):
        yield _trained_pair(name, layer)
    elif kind in _SEPARABLE:
        yield _depthwise(array_name(name, "depthwise"), layer, layer.depthwise_kernel, bias=None)
        ones = (1,) * len(layer.kernel_size)
        arrays = {"weight": _array(layer.pointwise_kernel, _KERNEL), **_bias(layer.bias)}
        yield ModelLayer(array_name(name, "pointwise"), Description("convolution", ones), arrays)
    elif kind in _DEPTHWISE:
        yield _depthwise(name, layer, layer.kernel, layer.bias)
    elif kind in CONVOLUTIONS:
        what = "transposed" if is_transposed(layer) else "convolution"
        arrays = {"weight": _array(layer.kernel, _KERNEL), **_delta(layer), **_bias(layer.bias)}
        size, groups = tuple(layer.kernel_size), getattr(layer, "groups", 1)
        yield ModelLayer(name, Description(what, size, groups, _d_mul(layer)), arrays)
    elif kind is layers.Dense:
        arrays = {"weight": _array(layer.kernel, _DENSE), **_bias(layer.bias)}
        yield ModelLayer(name, Description("dense"), arrays)
    elif kind in _NORMALIZATIONS:
        yield from _normalization(name, layer, _NORMALIZATIONS[kind])
    elif kind is layers.PReLU:
        yield from _prelu(name, layer)
    else:
        yield from _unknown(name, layer)


def _is_delta(layer: Any) -> bool:
    return isinstance(layer, OverParameterized)


def _d_mul(layer: Any) -> int | None:
    has_delta = _is_delta(layer) and layer.depthwise_delta is not None
    return layer.spec.d_mul if has_delta else None


def _delta(layer: Any) -> dict[str, LayerArray]:
    return {} if _d_mul(layer) is None else {DELTA: _array(layer.depthwise_delta, _DELTA)}


def _bias(variable: Any) -> dict[str, LayerArray]:
    return {} if variable is None else {"bias": _array(variable, _SAME)}


def _depthwise(name: str, layer: Any, kernel: Any, bias: Any) -> ModelLayer:
    """A depthwise kernel `(*K or D_mul, C_in, multiplier)`: one group for each input channel."""
    *_, channels, multiplier = kernel.shape
    size = tuple(layer.kernel_size)
    spec = Spec(channels, channels * multiplier, size, channels)
    layout: Layout = (
        layouts.depthwise_kernel_from_keras,
        lambda array: layouts.depthwise_kernel_to_keras(array, spec),
    )
    arrays = {"weight": _array(kernel, layout), **_delta(layer), **_bias(bias)}
    return ModelLayer(name, Description("convolution", size, channels, _d_mul(layer)), arrays)


def _trained_pair(name: str, layer: Any) -> ModelLayer:
    """A separable layer that is trained as one: W has its arrays, `(C_out, C_in, D_mul)`."""
    spec: SeparableSpec = layer.spec
    shapes = spec.weight_shape, tuple(layer.pointwise_kernel.shape)
    layout: Layout = (
        lambda array: layouts.kernel_from_keras(array).reshape(shapes[0]),
        lambda array: layouts.kernel_to_keras(
            array.reshape(spec.out_channels, -1, *(1,) * spec.rank)
        ),
    )
    arrays = {
        "weight": _array(layer.pointwise_kernel, layout),
        SEPARABLE: _array(layer.depthwise_kernel, _DELTA),
        **_bias(layer.bias),
    }
    return ModelLayer(name, Description("separable", spec.kernel_size, 1, spec.d_mul), arrays)


def _normalization(name: str, layer: Any, names: dict[str, str]) -> Iterator[ModelLayer]:
    variables = {role: getattr(layer, own, None) for role, own in names.items()}
    kept = {role: one for role, one in variables.items() if one is not None}
    if any(len(one.shape) > 1 for one in kept.values()):
        yield from _unknown(name, layer)
        return
    groups = getattr(layer, "groups", 1)
    arrays = {role: _array(one, _SAME) for role, one in kept.items()}
    if arrays:
        yield ModelLayer(
            name, Description("normalization", (), groups, None, layer.epsilon), arrays
        )


def _prelu(name: str, layer: Any) -> Iterator[ModelLayer]:
    """One slope, or one for each channel; other frameworks have no slopes for each position."""
    shape = tuple(layer.alpha.shape)
    axis = -1 if keras.config.image_data_format() == "channels_last" else 0
    if math.prod(shape) != shape[axis]:
        yield from _unknown(name, layer)
        return
    layout: Layout = (np.ravel, lambda array: array.reshape(shape))
    yield ModelLayer(name, Description("prelu"), {"weight": _array(layer.alpha, layout)})


def _unknown(name: str, layer: Any) -> Iterator[ModelLayer]:
    """The variables of a layer that other frameworks do not have, without those it holds."""
    if own := _variables(layer):
        yield ModelLayer(name, None, {one.name: _array(one, _SAME) for one in own})


def _variables(layer: Any) -> list[Any]:
    """The variables of a layer, without those of what it holds."""
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def _array(variable: Any, layout: Layout, then: Callable[[], None] = lambda: None) -> VariableArray:
    to_core, from_core = layout
    dtype = keras.backend.standardize_dtype(variable.dtype)

    def read() -> np.ndarray:
        array = ops.convert_to_numpy(variable)
        return np.array(to_core(array.astype("float32") if dtype == "bfloat16" else array))

    def write(array: np.ndarray) -> None:
        variable.assign(from_core(array))
        then()

    shape = tuple(to_core(np.broadcast_to(np.zeros(()), tuple(variable.shape))).shape)
    own = variable.name, tuple(variable.shape)
    return VariableArray(shape, dtype, read, write, variable, to_core, from_core, own=own)
