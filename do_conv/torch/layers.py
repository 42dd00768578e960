"""The convolutions: `nn.Conv1d`, `2d` and `3d`, over-parameterized."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from do_conv.core import rules
from do_conv.core.rules import CompositionName, DepthwiseInit, PaddingMode
from do_conv.core.spec import Spec
from do_conv.torch.base import OverParameterized
from do_conv.torch.keywords import checks_names
from do_conv.torch.plain import plain_arguments


class _DOConv(OverParameterized):
    """The convolutions of every rank; `OverParameterized` names the attributes."""

    @checks_names
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        padding: str | int | tuple[int, ...] = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: PaddingMode = "zeros",
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        d_mul: int | None = None,
        depthwise_init: DepthwiseInit = "identity",
        composition: CompositionName = "kernel",
    ) -> None:
        """The arguments before `d_mul` are those of `nn.Conv1d`, `2d` or `3d`.

        Args:
            groups: G; 1 is DO-Conv, C_in is DO-DConv, anything between is DO-GConv.
            d_mul: D_mul, at least |K|, the default. Where |K| = 1 the layer is the plain one.
            depthwise_init: how D starts (Table 7): "identity", with which the layer starts as the
                plain one, or "he", normal with standard deviation `sqrt(2/|K|)`.
            composition: "kernel" composes one kernel and convolves once; "feature" convolves twice
                (equation 3). Both give the same output; the attribute may be changed at any time.

        Raises:
            DOConvError: if an argument breaks a rule; the message names it.
        """
        spec = Spec(
            self._check_in_channels(in_channels),
            rules.integer("out_channels", out_channels),
            rules.axes("kernel_size", kernel_size, self._rank),
            groups,
            d_mul,
        )
        rules.warn_of_stride(rules.axes("stride", stride, spec.rank), spec.kernel_size)
        plain = plain_arguments(spec, stride, padding, dilation, bias, padding_mode)
        super().__init__(spec, composition, depthwise_init, plain, device, dtype)

    def _plain_arguments(self) -> tuple[Any, ...]:
        return plain_arguments(
            self.spec,
            self.stride,
            self.padding,
            self.dilation,
            self.bias is not None,
            self.padding_mode,
        )


class DOConv1d(_DOConv, nn.Conv1d):
    """An over-parameterized `nn.Conv1d`; its arguments, and three of our own, by keyword.

    Shapes: input `(N, C_in, L)`, output `(N, C_out, L')`; `weight` (W) `(C_out, C_in/G, *K)`,
    `depthwise_delta` (D') `(C_in, D_mul, *K)`, `bias` `(C_out,)`.

    Examples:
        >>> import torch
        >>> from do_conv.torch import DOConv1d
        >>> layer = DOConv1d(3, 16, 3, padding=1)
        >>> layer(torch.randn(1, 3, 8)).shape
        torch.Size([1, 16, 8])
        >>> layer.fold()
        Conv1d(3, 16, kernel_size=(3,), stride=(1,), padding=(1,))
    """

    _plain, _operator, _rank = nn.Conv1d, staticmethod(functional.conv1d), 1

    if TYPE_CHECKING:

        def fold(self, *, check_finite: bool = True) -> nn.Conv1d: ...  # noqa: D102
        def fuse(self) -> nn.Conv1d: ...  # noqa: D102


class DOConv2d(_DOConv, nn.Conv2d):
    """An over-parameterized `nn.Conv2d`; its arguments, and three of our own, by keyword.

    Shapes: input `(N, C_in, H, W)`, output `(N, C_out, H', W')`; `weight` (W)
    `(C_out, C_in/G, *K)`, `depthwise_delta` (D') `(C_in, D_mul, *K)`, `bias` `(C_out,)`.

    Examples:
        >>> import torch
        >>> from do_conv.torch import DOConv2d
        >>> layer = DOConv2d(3, 16, 3, padding=1)
        >>> layer(torch.randn(1, 3, 8, 8)).shape
        torch.Size([1, 16, 8, 8])
        >>> layer.fold()
        Conv2d(3, 16, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
    """

    _plain, _operator, _rank = nn.Conv2d, staticmethod(functional.conv2d), 2

    if TYPE_CHECKING:

        def fold(self, *, check_finite: bool = True) -> nn.Conv2d: ...  # noqa: D102
        def fuse(self) -> nn.Conv2d: ...  # noqa: D102


class DOConv3d(_DOConv, nn.Conv3d):
    """An over-parameterized `nn.Conv3d`; its arguments, and three of our own, by keyword.

    Shapes: input `(N, C_in, D, H, W)`, output `(N, C_out, D', H', W')`; `weight` (W)
    `(C_out, C_in/G, *K)`, `depthwise_delta` (D') `(C_in, D_mul, *K)`, `bias` `(C_out,)`.

    Examples:
        >>> import torch
        >>> from do_conv.torch import DOConv3d
        >>> layer = DOConv3d(3, 16, 3, padding=1)
        >>> layer(torch.randn(1, 3, 8, 8, 8)).shape
        torch.Size([1, 16, 8, 8, 8])
        >>> layer.fold()
        Conv3d(3, 16, kernel_size=(3, 3, 3), stride=(1, 1, 1), padding=(1, 1, 1))
    """

    _plain, _operator, _rank = nn.Conv3d, staticmethod(functional.conv3d), 3

    if TYPE_CHECKING:

        def fold(self, *, check_finite: bool = True) -> nn.Conv3d: ...  # noqa: D102
        def fuse(self) -> nn.Conv3d: ...  # noqa: D102
