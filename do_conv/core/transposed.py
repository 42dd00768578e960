"""Transposed convolution: the adjoint of the convolution whose inputs are its outputs.

The stored kernel is that convolution's, `(C_in, C_out/G, *K)` in the layer's own channels. D
belongs to its second axis, the output channels, and composition is the same formula on it. In
feature composition the order of work turns round, too: first W spreads the input over the features,
then D spreads the features over the output.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from do_conv.core import rules
from do_conv.core.convolution import Window, convolve, convolve_gradients, input_gradient, with_bias
from do_conv.core.errors import broken
from do_conv.core.features import depthwise_kernel, pointwise_kernel, pointwise_window
from do_conv.core.spec import Shape, Spec


def transposed_size(size: Shape, window: Window, output_padding: Any = 0) -> Shape:
    """The spatial size of the output for an input of spatial `size`.

    It is `(size - 1) * stride - before - after + extent + output_padding`, or with padding "same"
    `size * stride`.

    Raises:
        DOConvError: if the padding is "causal" or not of zeros, or output_padding is not smaller
            than the stride or the dilation.
    """
    # Padding crops the output, so circular or reflected padding has no meaning here.
    if window.padding == "causal" or window.padding_mode != "zeros":
        raise broken(
            "a transposed convolution needs padding of zeros, and not causal",
            f"padding={window.padding!r}, padding_mode={window.padding_mode!r}",
            "give numbers, 'valid' or 'same'",
        )
    extra = rules.output_padding(output_padding, window.stride, window.dilation)
    if window.padding == "same":
        return tuple(n * step for n, step in zip(size, window.stride, strict=True))
    spans = zip(size, window.stride, window.pads(size), window.extent, extra, strict=True)
    return tuple((n - 1) * step - sum(pad) + extent + more for n, step, pad, extent, more in spans)


def convolve_transposed(
    x: np.ndarray,
    kernel: np.ndarray,
    window: Window,
    groups: int = 1,
    bias: np.ndarray | None = None,
    output_padding: Any = 0,
) -> np.ndarray:
    """A transposed convolution.

    Args:
        x: `(N, C_in, *size)`.
        kernel: `(C_in, C_out/groups, *K)`, as frameworks store it.
        window: stride, padding (in numbers, "valid" or "same") and dilation of the adjoint
            convolution.
        groups: G.
        bias: `(C_out,)` or None.
        output_padding: positions added at the end of each axis of the output.

    Returns:
        `(N, C_out, *transposed_size(size, window, output_padding))`.
    """
    rules.input_shape(x.shape, len(window.kernel_size), kernel.shape[0])
    rules.kernel_fits(kernel.shape, window.kernel_size, groups)
    size = transposed_size(x.shape[2:], window, output_padding)
    return with_bias(input_gradient(x, kernel, window, size, groups), bias)


def transposed_gradients(
    grad: np.ndarray, x: np.ndarray, kernel: np.ndarray, window: Window, groups: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The gradients with respect to x, the kernel and the bias, given `grad`, the output's.

    Args:
        grad: `(N, C_out, *output size)`.
        x, kernel, window, groups: as for `convolve_transposed`.

    Returns:
        three arrays in the shapes of `x`, `kernel` and `(C_out,)`.
    """
    # <grad, A^T x> = <A grad, x>: A is the convolution, here of `grad`. An output_padding as large
    # as the stride gives A positions more than x has; x is zero there.
    by_x = convolve(grad, kernel, window, groups)
    within = tuple(map(slice, x.shape))
    widened = np.zeros_like(by_x)
    widened[within] = x
    _, grad_kernel, _ = convolve_gradients(widened, grad, kernel, window, groups)
    return by_x[within], grad_kernel, grad.sum(axis=(0, *range(2, grad.ndim)))


def convolve_transposed_features(
    x: np.ndarray,
    weight: np.ndarray,
    delta: np.ndarray,
    spec: Spec,
    window: Window,
    bias: np.ndarray | None = None,
    output_padding: Any = 0,
) -> np.ndarray:
    """The layer's output by feature composition.

    Args:
        x: `(N, C_in, *size)`.
        weight, delta: W and D', as for `compose`.
        spec: the layer's sizes, of a transposed layer.
        window, bias, output_padding: as for `convolve_transposed`.

    Returns:
        `(N, C_out, *output size)`.
    """
    pointwise = pointwise_kernel(weight, spec)
    features = convolve_transposed(x, pointwise, pointwise_window(spec.rank), spec.groups)
    depthwise = depthwise_kernel(delta, spec)
    return convolve_transposed(
        features, depthwise, window, spec.depthwise_channels, bias, output_padding
    )


def transposed_feature_gradients(
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
        x, weight, delta, spec, window: as for `convolve_transposed_features`.

    Returns:
        four arrays in the shapes of `x`, `weight`, `delta` and `(C_out,)`.
    """
    depthwise, pointwise = depthwise_kernel(delta, spec), pointwise_kernel(weight, spec)
    point = pointwise_window(spec.rank)
    features = convolve_transposed(x, pointwise, point, spec.groups)
    grad_features, grad_delta, grad_bias = transposed_gradients(
        grad, features, depthwise, window, spec.depthwise_channels
    )
    grad_x, grad_weight, _ = transposed_gradients(grad_features, x, pointwise, point, spec.groups)
    return grad_x, grad_weight.reshape(weight.shape), grad_delta.reshape(delta.shape), grad_bias
