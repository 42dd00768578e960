"""The convolutions with the arguments of the authors' layer."""

from __future__ import annotations

from typing import Any

import torch

from do_conv.core import rules
from do_conv.core.rules import CompositionName, DepthwiseInit
from do_conv.torch import layers
from do_conv.torch.authors.state import ReadsAuthors


class _Authors(ReadsAuthors, layers._DOConv):
    """The convolutions of every rank."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        D_mul: int | None = None,  # noqa: N803
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: Any = "zeros",
        *,
        device: Any = None,
        dtype: torch.dtype | None = None,
        depthwise_init: DepthwiseInit = "identity",
        composition: CompositionName = "kernel",
    ) -> None:
        """The arguments before `device` are those of the authors' layer.

        Args:
            D_mul: D_mul, at least |K|, the default; the fourth argument, before the stride.
            padding: with a `padding_mode` other than "zeros" their layer pads the axes in the other
                order, the last one by the first number, and so does this one. The attribute
                `padding` has the numbers in PyTorch's order.
            depthwise_init, composition: as for the layers of `do_conv.torch`.

        Raises:
            DOConvError: if an argument breaks a rule; the message names it.
        """
        sides = rules.axes("kernel_size", kernel_size, self._rank)
        rules.authors_multiplier("fourth", D_mul, sides)
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            authors_padding(padding, padding_mode, self._rank),
            dilation,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
            d_mul=D_mul,
            depthwise_init=depthwise_init,
            composition=composition,
        )


class DOConv1d(_Authors, layers.DOConv1d):
    """`do_conv.torch.DOConv1d` with the arguments and the order of the authors' layer.

    The authors' file has two axes only; copies of it have this name. The rest is as for `DOConv2d`.

    Examples:
        >>> import torch
        >>> from do_conv.torch.authors import DOConv1d
        >>> layer = DOConv1d(3, 16, 3, None, 2, 1)
        >>> layer(torch.randn(1, 3, 8)).shape
        torch.Size([1, 16, 4])
    """


class DOConv2d(_Authors, layers.DOConv2d):
    """`do_conv.torch.DOConv2d` with the arguments and the order of the authors' layer.

    `load_state_dict` reads the authors' arrays, `W`, `D` and `d_diag` (or `D_diag`), and those that
    this layer saves, which are `weight` and `depthwise_delta`. Shapes are those of
    `do_conv.torch.DOConv2d`. Where groups of several outputs each are read, the outputs are the
    same, D' becomes zero, and a warning says so: the authors' code pairs such outputs with the D of
    other groups than the paper.

    Examples:
        >>> import torch
        >>> from do_conv.torch.authors import DOConv2d
        >>> layer = DOConv2d(3, 16, 3, None, 2, 1)
        >>> layer(torch.randn(1, 3, 8, 8)).shape
        torch.Size([1, 16, 4, 4])
        >>> layer.fold()
        Conv2d(3, 16, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1))
    """


class DOConv3d(_Authors, layers.DOConv3d):
    """`do_conv.torch.DOConv3d` with the arguments and the order of the authors' layer.

    The authors' file has two axes only; copies of it have this name. The rest is as for `DOConv2d`.

    Examples:
        >>> import torch
        >>> from do_conv.torch.authors import DOConv3d
        >>> layer = DOConv3d(3, 16, 3, None, 2, 1)
        >>> layer(torch.randn(1, 3, 8, 8, 8)).shape
        torch.Size([1, 16, 4, 4, 4])
    """


def authors_padding(padding: Any, padding_mode: Any, rank: int) -> Any:
    """The padding in PyTorch's order of axes, given the authors' argument."""
    padding = rules.padding(padding, rank)
    return padding if padding_mode == "zeros" or isinstance(padding, str) else padding[::-1]
