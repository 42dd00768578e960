"""The class that takes a layer's place, and the sizes of a layer."""

from __future__ import annotations

from typing import Any

import keras

from do_conv.core.spec import Spec
from do_conv.tf.composed import Composed
from do_conv.tf.depthwise import DODepthwiseConv2D
from do_conv.tf.layers import DOConv1D, DOConv2D, DOConv3D
from do_conv.tf.separable_delta import DOSeparableConv1D, DOSeparableConv2D
from do_conv.tf.transposed import DOConv1DTranspose, DOConv2DTranspose, DOConv3DTranspose

_TRANSPOSED: dict[Any, Any] = {
    keras.layers.Conv1DTranspose: DOConv1DTranspose,
    keras.layers.Conv2DTranspose: DOConv2DTranspose,
    keras.layers.Conv3DTranspose: DOConv3DTranspose,
}
_OURS: dict[Any, Any] = {
    keras.layers.Conv1D: DOConv1D,
    keras.layers.Conv2D: DOConv2D,
    keras.layers.Conv3D: DOConv3D,
    keras.layers.DepthwiseConv2D: DODepthwiseConv2D,
    keras.layers.SeparableConv1D: DOSeparableConv1D,
    keras.layers.SeparableConv2D: DOSeparableConv2D,
    **_TRANSPOSED,
}
_SEPARABLE = (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)
# Layers with a depthwise kernel; in a separable layer D' belongs to it.
_DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D, *_SEPARABLE)
CONVOLUTIONS = (*_OURS, keras.layers.DepthwiseConv1D)


def class_for(kind: Any) -> Any:
    """The class that over-parameterizes layers of a class, or None."""
    return _OURS.get(kind)


def is_transposed(layer: Any) -> bool:
    """Whether a convolution is a transposed one."""
    return isinstance(layer, tuple(_TRANSPOSED))


def spec_of(layer: Any, d_mul: int | None) -> Spec:
    """The sizes of a plain layer; one without variables knows only its output channels."""
    sizes = (*_channels(layer), layer.kernel_size, _groups(layer), d_mul)
    return Spec(*sizes, transposed=is_transposed(layer))


def _channels(layer: Any) -> tuple[int | None, int | None]:
    is_depthwise = isinstance(layer, _DEPTHWISE)
    if not layer.built:
        return None, None if is_depthwise else layer.filters
    *_, inner, outer = kernel_of(layer).shape
    if is_depthwise:
        return inner, inner * outer
    return outer if is_transposed(layer) else inner * _groups(layer), layer.filters


def _groups(layer: Any) -> int:
    if isinstance(layer, _DEPTHWISE):
        return int(kernel_of(layer).shape[-2]) if layer.built else 1
    return getattr(layer, "groups", 1)


def input_channels(layer: Any) -> int | None:
    """The channels of the input that a layer was built for, or None."""
    if not layer.built:
        return None
    spec: Spec = layer.spec if isinstance(layer, Composed) else spec_of(layer, None)
    return int(spec.in_channels)


def kernel_of(layer: Any) -> Any:
    """The kernel that a D' belongs to."""
    return layer.depthwise_kernel if isinstance(layer, _SEPARABLE) else layer.kernel
