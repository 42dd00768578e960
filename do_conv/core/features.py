"""Feature composition: the same layer as a depthwise and a pointwise convolution (equation 3).

`O = W * (D o P)`: the stride, padding and dilation belong to the depthwise convolution. It gives
kernel composition's result for every G and needs no kernel composed, but costs D_mul times |K|
multiply-accumulates for every input channel of every output position.
"""

from __future__ import annotations

import numpy as np

from do_conv.core.convolution import Window, convolve, convolve_gradients
from do_conv.core.spec import Spec
from do_conv.core.starts import identity


def pointwise_window(rank: int) -> Window:
    """The window of a pointwise convolution."""
    return Window((1,) * rank)


def depthwise_kernel(delta: np.ndarray, spec: Spec) -> np.ndarray:
    """D = I + D' as a depthwise convolution's kernel, `(C_in * D_mul, 1, *K)`."""
    depthwise = (identity(spec) + delta).astype(delta.dtype)
    return depthwise.reshape(-1, 1, *spec.kernel_size)


def pointwise_kernel(weight: np.ndarray, spec: Spec) -> np.ndarray:
    """W as a grouped pointwise convolution's kernel, `(C_out, C_in/G * D_mul, 1, ...)`."""
    return weight.reshape(spec.rows, -1, *[1] * spec.rank)


def convolve_features(
    x: np.ndarray,
    weight: np.ndarray,
    delta: np.ndarray,
    spec: Spec,
    window: Window,
    bias: np.ndarray | None = None,
) -> np.ndarray:
    """The layer's output by feature composition.

    Args:
        x: `(N, C_in, *size)`.
        weight, delta: W and D' (a separable pair's D), as for `compose`.
        spec: the layer's sizes.
        window: stride, padding and dilation of the layer.
        bias: `(C_out,)` or None.

    Returns:
        `(N, C_out, *output size)`.
    """
    features = convolve(x, depthwise_kernel(delta, spec), window, spec.depthwise_channels)
    pointwise = pointwise_kernel(weight, spec)
    return convolve(features, pointwise, pointwise_window(spec.rank), spec.groups, bias)


def feature_gradients(
    grad: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    delta: np.ndarray,
    spec: Spec,
    window: Window,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The gradients with respect to x, W, D' and the bias by feature composition.

    Args:
        grad: the output's gradient, `(N, C_out, *output size)`.
        x, weight, delta, spec, window: as for `convolve_features`.

    Returns:
        four arrays in the shapes of `x`, `weight`, `delta` and `(C_out,)`.
    """
    depthwise, pointwise = depthwise_kernel(delta, spec), pointwise_kernel(weight, spec)
    features = convolve(x, depthwise, window, spec.depthwise_channels)
    grad_features, grad_weight, grad_bias = convolve_gradients(
        grad, features, pointwise, pointwise_window(spec.rank), spec.groups
    )
    grad_x, grad_delta, _ = convolve_gradients(
        grad_features, x, depthwise, window, spec.depthwise_channels
    )
    return grad_x, grad_weight.reshape(weight.shape), grad_delta.reshape(delta.shape), grad_bias
