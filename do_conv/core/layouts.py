"""Keras's order of the axes of W, D', W' and activations; PyTorch and Gluon use the core's own.

Keras keeps a kernel's spatial axes first and its output channels last. These functions move axes of
whatever has NumPy's `reshape` and `transpose`, without computing anything.
"""

from __future__ import annotations

import math
from typing import Any

from do_conv.core.spec import Spec


def kernel_to_keras(kernel: Any) -> Any:
    """`(C_out, C_in/G, *K)` or `(C_out, C_in/G, D_mul)` to `(*K or D_mul, C_in/G, C_out)`."""
    return kernel.transpose(*range(2, kernel.ndim), 1, 0)


def kernel_from_keras(kernel: Any) -> Any:
    """The way back from `kernel_to_keras`."""
    return kernel.transpose(kernel.ndim - 1, kernel.ndim - 2, *range(kernel.ndim - 2))


def depthwise_kernel_to_keras(kernel: Any, spec: Spec) -> Any:
    """`(C_in * multiplier, 1, ...)` to `DepthwiseConv2D`'s `(..., C_in, multiplier)`."""
    last = kernel_to_keras(kernel)
    return last.reshape(*last.shape[:-2], spec.depthwise_channels, spec.group_rows)


def depthwise_kernel_from_keras(kernel: Any) -> Any:
    """The way back from `depthwise_kernel_to_keras`."""
    return kernel_from_keras(kernel.reshape(*kernel.shape[:-2], 1, math.prod(kernel.shape[-2:])))


def delta_to_keras(delta: Any) -> Any:
    """`(C_in, D_mul, *K)` to `(*K, C_in, D_mul)`, the order of Keras's depthwise kernels."""
    return delta.transpose(*range(2, delta.ndim), 0, 1)


def delta_from_keras(delta: Any) -> Any:
    """The way back from `delta_to_keras`."""
    return delta.transpose(delta.ndim - 2, delta.ndim - 1, *range(delta.ndim - 2))


def channels_last(x: Any) -> Any:
    """`(N, C, *size)` to `(N, *size, C)`."""
    return x.transpose(0, *range(2, x.ndim), 1)


def channels_first(x: Any) -> Any:
    """`(N, *size, C)` to `(N, C, *size)`."""
    return x.transpose(0, x.ndim - 1, *range(1, x.ndim - 1))
