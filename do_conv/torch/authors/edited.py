"""The edited copy of the authors' file that image deblurring and denoising networks include.

Its `DOConv2d` has other defaults: a 3 x 3 kernel, `padding=1` and `bias=False`. `DOConv2d_eval` is
its plain layer for deployment.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from do_conv.core import rules
from do_conv.core.errors import broken
from do_conv.core.rules import CompositionName, DepthwiseInit
from do_conv.core.spec import Spec
from do_conv.torch.authors import layer
from do_conv.torch.authors.state import ReadsAuthors
from do_conv.torch.plain import plain_arguments

__all__ = ["DOConv2d", "DOConv2d_eval"]


class DOConv2d(layer.DOConv2d):
    """`do_conv.torch.authors.DOConv2d` with the defaults of the edited copy.

    These are `kernel_size=3, padding=1, bias=False`.

    Examples:
        >>> import torch
        >>> from do_conv.torch.authors.edited import DOConv2d
        >>> layer = DOConv2d(3, 16)
        >>> layer(torch.randn(1, 3, 8, 8)).shape
        torch.Size([1, 16, 8, 8])
        >>> layer.bias is None
        True
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int] = 3,
        D_mul: int | None = None,  # noqa: N803
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 1,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = False,
        padding_mode: Any = "zeros",
        simam: bool = False,
        *,
        device: Any = None,
        dtype: torch.dtype | None = None,
        depthwise_init: DepthwiseInit = "identity",
        composition: CompositionName = "kernel",
    ) -> None:
        """The arguments before `device` are those of the edited copy.

        Args:
            simam: only False; the copy's attention on the kernel is no part of DO-Conv.

        Raises:
            DOConvError: if an argument breaks a rule; the message names it.
        """
        _check_simam(simam)
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            D_mul,
            stride,
            padding,
            dilation,
            groups,
            bias,
            padding_mode,
            device=device,
            dtype=dtype,
            depthwise_init=depthwise_init,
            composition=composition,
        )


class DOConv2d_eval(ReadsAuthors, nn.Conv2d):  # noqa: N801
    """A plain `nn.Conv2d` with the arguments and defaults of the edited copy's `DOConv2d_eval`.

    `load_state_dict` reads its `W` with four axes, and a trained layer's `W`, `D` and `D_diag`,
    which it folds. The copy's layer has no bias even if `bias=True`: where its `W` comes alone, the
    bias is zero.

    Examples:
        >>> import torch
        >>> from do_conv.torch.authors.edited import DOConv2d_eval
        >>> layer = DOConv2d_eval(3, 16)
        >>> _ = layer.load_state_dict({"W": torch.ones(16, 3, 3, 3)})
        >>> layer(torch.randn(1, 3, 8, 8)).shape
        torch.Size([1, 16, 8, 8])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int] = 3,
        D_mul: int | None = None,  # noqa: N803
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 1,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = False,
        padding_mode: Any = "zeros",
        simam: bool = False,
        *,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """The arguments before `device` are those of the edited copy.

        Args:
            D_mul: checked, and of no effect: the layer is plain.
            simam: only False; the copy's attention on the kernel is no part of DO-Conv.

        Raises:
            DOConvError: if an argument breaks a rule; the message names it.
        """
        _check_simam(simam)
        sides = rules.axes("kernel_size", kernel_size, 2)
        rules.authors_multiplier("fourth", D_mul, sides)
        spec = Spec(
            rules.integer("in_channels", in_channels),
            rules.integer("out_channels", out_channels),
            sides,
            groups,
        )
        padding = layer.authors_padding(padding, padding_mode, 2)
        plain = plain_arguments(spec, stride, padding, dilation, bias, padding_mode)
        super().__init__(*plain, device, dtype)  # type: ignore[call-arg]  # a tuple of unknown length


def _check_simam(simam: Any) -> None:
    """Refuse the copy's attention on the kernel."""
    if simam:
        raise broken(
            "simam, the edited copy's attention on the kernel, is no part of DO-Conv",
            f"simam={simam}",
            "leave it out, or keep the copy for such layers",
        )
