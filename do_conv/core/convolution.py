"""A slow, plain N-dimensional convolution and its gradients.

Channels first throughout: inputs `(N, C_in, *size)`, kernels `(C_out, C_in/G, *K)`, as in
equation 1 of the paper; with G = C_in it is the depthwise convolution of equation 2.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from do_conv.core import rules
from do_conv.core.errors import broken
from do_conv.core.spec import Shape

Pads = tuple[tuple[int, int], ...]

_NUMPY_PAD = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@dataclass(frozen=True)
class Window:
    """How a kernel slides: a step, a padding and a dilation per spatial axis.

    Args:
        kernel_size: K.
        stride: an integer or one per axis.
        padding: an integer, one per axis, (before, after) per axis, "valid" (none), "same"
            (the output has `ceil(size / stride)` positions; an odd one goes after) or "causal"
            (1-D, all of it before).
        dilation: an integer or one per axis.
        padding_mode: "zeros", "reflect", "replicate" or "circular".

    Raises:
        DOConvError: if a number is not an integer in its range, or a word is unknown.

    Examples:
        >>> from do_conv import Window
        >>> Window((3, 3), stride=2, padding=1).output_size((8, 8))
        (4, 4)
    """

    kernel_size: Shape
    stride: Any = 1
    padding: Any = 0
    dilation: Any = 1
    padding_mode: str = "zeros"

    def __post_init__(self) -> None:
        rank = len(rules.kernel_axes(self.kernel_size))
        words = ("same", "valid", "causal") if rank == 1 else ("same", "valid")
        for name, value in (
            ("kernel_size", rules.axes("kernel_size", self.kernel_size, rank)),
            ("stride", rules.axes("stride", self.stride, rank)),
            ("padding", rules.padding_pairs(self.padding, rank, words=words)),
            ("dilation", rules.axes("dilation", self.dilation, rank)),
        ):
            object.__setattr__(self, name, value)
        rules.choice("padding_mode", self.padding_mode, rules.PADDING_MODES)

    @property
    def extent(self) -> Shape:
        """The positions a dilated kernel spans on each axis."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel_size, self.dilation, strict=True))

    def pads(self, size: Shape) -> Pads:
        """(before, after) on each axis for an input of spatial `size`."""
        if self.padding == "valid":
            return ((0, 0),) * len(size)
        if self.padding == "causal":
            return ((self.extent[0] - 1, 0),)
        if self.padding == "same":
            totals = (
                max((-(-n // s) - 1) * s + e - n, 0)
                for n, s, e in zip(size, self.stride, self.extent, strict=True)
            )
            return tuple((total // 2, total - total // 2) for total in totals)
        return self.padding

    def output_size(self, size: Shape) -> Shape:
        """The spatial size of the output for an input of spatial `size`.

        Raises:
            DOConvError: if the dilated kernel is larger than the padded input.
        """
        padded = [n + sum(pad) for n, pad in zip(size, self.pads(size), strict=True)]
        if any(span > n for span, n in zip(self.extent, padded, strict=True)):
            raise broken(
                "the padded input must be at least as large as the dilated kernel, "
                f"{tuple(self.extent)}",
                f"a padded input of spatial size {tuple(padded)}",
                "give a larger input, more padding, or a smaller kernel or dilation",
            )
        spans = zip(padded, self.extent, self.stride, strict=True)
        return tuple((n - extent) // step + 1 for n, extent, step in spans)

    def positions(self, offset: Shape, output_size: Shape) -> tuple[Any, ...]:
        """The index of what the kernel position `offset` reads in the padded input."""
        return Ellipsis, *(
            slice(k * d, k * d + (n - 1) * s + 1, s)
            for k, d, n, s in zip(offset, self.dilation, output_size, self.stride, strict=True)
        )


def convolve(
    x: np.ndarray,
    kernel: np.ndarray,
    window: Window,
    groups: int = 1,
    bias: np.ndarray | None = None,
) -> np.ndarray:
    """An ordinary grouped convolution (equation 1 of the paper).

    Args:
        x: the input, `(N, C_in, *size)`.
        kernel: `(C_out, C_in/groups, *K)`.
        window: stride, padding and dilation.
        groups: G.
        bias: `(C_out,)` or None.

    Returns:
        the output, `(N, C_out, *window.output_size(size))`.

    Raises:
        DOConvError: if the input has another rank or number of channels.
    """
    patches, output_size = _patches(x, kernel, window, groups)
    grouped = kernel.reshape(groups, kernel.shape[0] // groups, -1)
    out = np.matmul(grouped, patches).reshape(x.shape[0], kernel.shape[0], *output_size)
    return with_bias(out, bias)


def convolve_gradients(
    grad: np.ndarray, x: np.ndarray, kernel: np.ndarray, window: Window, groups: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The gradients with respect to x, the kernel and the bias, given `grad`, the output's.

    Args:
        grad: `(N, C_out, *output size)`.
        x, kernel, window, groups: as for `convolve`.

    Returns:
        three arrays in the shapes of `x`, `kernel` and `(C_out,)`.
    """
    patches, output_size = _patches(x, kernel, window, groups)
    expected = (x.shape[0], kernel.shape[0], *output_size)
    rules.array_shape("the gradient of the output", expected, grad.shape)
    flat = grad.reshape(x.shape[0], groups, kernel.shape[0] // groups, -1)
    grad_kernel = np.matmul(flat, patches.swapaxes(-1, -2)).sum(axis=0).reshape(kernel.shape)
    grad_bias = grad.sum(axis=(0, *range(2, grad.ndim)))
    return input_gradient(grad, kernel, window, x.shape[2:], groups), grad_kernel, grad_bias


def input_gradient(
    grad: np.ndarray, kernel: np.ndarray, window: Window, size: Shape, groups: int = 1
) -> np.ndarray:
    """The adjoint of `convolve` in x: what a transposed convolution computes (see `transposed`).

    Args:
        grad: `(N, C_out, *output size)`.
        kernel: `(C_out, C_in/groups, *K)`.
        window: stride, padding and dilation of the convolution.
        size: the spatial size of the convolution's input.
        groups: G.

    Returns:
        an array of shape `(N, C_in, *size)`.
    """
    batch, output_size = grad.shape[0], grad.shape[2:]
    channels = kernel.shape[1] * groups
    flat = grad.reshape(batch, groups, kernel.shape[0] // groups, -1)
    grouped = kernel.reshape(groups, kernel.shape[0] // groups, -1)
    patches = np.matmul(grouped.swapaxes(-1, -2), flat)
    patches = patches.reshape(batch, channels, *window.kernel_size, *output_size)
    pads = window.pads(size)
    padded_size = [n + before + after for n, (before, after) in zip(size, pads, strict=True)]
    padded = np.zeros((batch, channels, *padded_size), patches.dtype)
    for offset in itertools.product(*map(range, window.kernel_size)):
        where = window.positions(offset, output_size)
        padded[where] += patches[(slice(None), slice(None), *offset)]
    return _unpad(padded, size, pads, window.padding_mode)


def _patches(
    x: np.ndarray, kernel: np.ndarray, window: Window, groups: int
) -> tuple[np.ndarray, Shape]:
    """The inputs of each output, `(N, G, C_in/G * |K|, positions)`, and the output's size."""
    rank = len(window.kernel_size)
    rules.kernel_fits(kernel.shape, window.kernel_size, groups)
    rules.input_shape(x.shape, rank, kernel.shape[1] * groups)
    padded = np.pad(
        x, ((0, 0), (0, 0), *window.pads(x.shape[2:])), mode=_NUMPY_PAD[window.padding_mode]
    )  # type: ignore[call-overload]
    output_size = window.output_size(x.shape[2:])
    offsets = itertools.product(*map(range, window.kernel_size))
    reads = [padded[window.positions(offset, output_size)] for offset in offsets]
    patches = np.stack(reads, axis=2)
    return patches.reshape(x.shape[0], groups, kernel.shape[1] * len(reads), -1), output_size


def with_bias(out: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """`out`, `(N, C_out, *size)`, plus a bias `(C_out,)` if there is one."""
    if bias is None:
        return out
    rules.array_shape("bias", (out.shape[1],), bias.shape)
    return out + bias.reshape(-1, *[1] * (out.ndim - 2))


def _unpad(padded: np.ndarray, size: Shape, pads: Pads, mode: str) -> np.ndarray:
    """The adjoint of padding: each padded position adds to the one it was copied from."""
    for axis, (n, pad) in enumerate(zip(size, pads, strict=True), start=2):
        if mode == "zeros":
            padded = padded.take(range(pad[0], pad[0] + n), axis=axis)
            continue
        source = np.pad(np.arange(n), pad, mode=_NUMPY_PAD[mode])  # type: ignore[call-overload]
        first = np.zeros((n, *np.delete(padded.shape, axis)), padded.dtype)
        np.add.at(first, source, np.moveaxis(padded, axis, 0))
        padded = np.moveaxis(first, 0, axis)
    return padded
