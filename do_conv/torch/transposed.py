"""The transposed convolutions: `nn.ConvTranspose1d`, `2d` and `3d`, over-parameterized.

D belongs to the stored kernel's second axis, the output channels (see `do_conv.core.transposed`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from do_conv.core import rules
from do_conv.core.rules import CompositionName, DepthwiseInit
from do_conv.core.spec import Spec
from do_conv.torch.base import OverParameterized
from do_conv.torch.keywords import checks_names


class _DOConvTranspose(OverParameterized):
    """The transposed layers of every rank; `OverParameterized` names the attributes."""

    @checks_names
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] = 0,
        output_padding: int | tuple[int, ...] = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | tuple[int, ...] = 1,
        padding_mode: Literal["zeros"] = "zeros",
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        d_mul: int | None = None,
        depthwise_init: DepthwiseInit = "identity",
        composition: CompositionName = "kernel",
    ) -> None:
        """The arguments before `d_mul` are those of the plain layer.

        Args:
            padding: an integer or one per axis, taken away from the output.
            d_mul: D_mul, at least |K|, the default. Where |K| = 1 the layer is the plain one.
            depthwise_init: how D starts (Table 7): "identity", with which the layer starts as the
                plain one, or "he", normal with standard deviation `sqrt(2/|K|)`.
            composition: "kernel" composes one kernel and convolves once; "feature" convolves twice
                (equation 3). Both give the same output; the attribute may be changed at any time.

        Raises:
            DOConvError: if an argument breaks a rule; the message names it.
        """
        rank = self._rank
        spec = Spec(
            self._check_in_channels(in_channels),
            rules.integer("out_channels", out_channels),
            rules.axes("kernel_size", kernel_size, rank),
            groups,
            d_mul,
            transposed=True,
        )
        stride = rules.axes("stride", stride, rank)
        dilation = rules.axes("dilation", dilation, rank)
        plain = (
            spec.in_channels or 0,
            spec.out_channels,
            spec.kernel_size,
            stride,
            rules.padding(padding, rank, words=()),
            rules.output_padding(output_padding, stride, dilation),
            spec.groups,
            bias,
            dilation,
            rules.choice("padding_mode", padding_mode, ("zeros",)),
        )
        super().__init__(spec, composition, depthwise_init, plain, device, dtype)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Spread `input`, `(N, C_in, *size)` or `(C_in, *size)`, in the chosen composition.

        Args:
            input: the input.
            output_size: the spatial size of the output, in place of `output_padding`.

        Raises:
            DOConvError: if the input's rank, channels or dtype are not the layer's.
        """
        self._check_input(input)
        # A stride leaves several output sizes open. PyTorch compares `output_size` with the input,
        # so this comes before W spreads the input over the features.
        extra: Any = self._output_padding(  # type: ignore[operator]  # of `nn.ConvTranspose`
            input,
            output_size,
            self.stride,
            self.padding,
            self.kernel_size,
            self._rank,
            self.dilation,
        )
        if self._convolves_twice():
            input = self._operator(input, self._pointwise_kernel(), groups=self.groups)
            kernel, groups = self._depthwise_kernel(), self.out_channels
        else:
            kernel, groups = self.composed_weight(), self.groups
        return self._operator(
            input, kernel, self.bias, self.stride, self.padding, extra, groups, self.dilation
        )

    def _plain_arguments(self) -> tuple[Any, ...]:
        return (
            self.in_channels,
            self.out_channels,
            self.kernel_size,
            self.stride,
            self.padding,
            self.output_padding,
            self.groups,
            self.bias is not None,
            self.dilation,
            self.padding_mode,
        )


class DOConvTranspose1d(_DOConvTranspose, nn.ConvTranspose1d):
    """An over-parameterized `nn.ConvTranspose1d`: its arguments, and ours by keyword.

    Shapes: input `(N, C_in, L)`, output `(N, C_out, L')`; `weight` (W) `(C_in, C_out/G, *K)`,
    `depthwise_delta` (D') `(C_out, D_mul, *K)`, `bias` `(C_out,)`.

    Examples:
        >>> import torch
        >>> from do_conv.torch import DOConvTranspose1d
        >>> layer = DOConvTranspose1d(3, 16, 3, stride=2)
        >>> layer(torch.randn(1, 3, 8)).shape
        torch.Size([1, 16, 17])
        >>> layer.fold()
        ConvTranspose1d(3, 16, kernel_size=(3,), stride=(2,))
    """

    _plain, _operator, _rank = nn.ConvTranspose1d, staticmethod(functional.conv_transpose1d), 1

    if TYPE_CHECKING:

        def fold(self, *, check_finite: bool = True) -> nn.ConvTranspose1d: ...  # noqa: D102
        def fuse(self) -> nn.ConvTranspose1d: ...  # noqa: D102


class DOConvTranspose2d(_DOConvTranspose, nn.ConvTranspose2d):
    """An over-parameterized `nn.ConvTranspose2d`: its arguments, and ours by keyword.

    Shapes: input `(N, C_in, H, W)`, output `(N, C_out, H', W')`; `weight` (W)
    `(C_in, C_out/G, *K)`, `depthwise_delta` (D') `(C_out, D_mul, *K)`, `bias` `(C_out,)`.

    Examples:
        >>> import torch
        >>> from do_conv.torch import DOConvTranspose2d
        >>> layer = DOConvTranspose2d(3, 16, 3, stride=2)
        >>> layer(torch.randn(1, 3, 8, 8)).shape
        torch.Size([1, 16, 17, 17])
        >>> layer.fold()
        ConvTranspose2d(3, 16, kernel_size=(3, 3), stride=(2, 2))
    """

    _plain, _operator, _rank = nn.ConvTranspose2d, staticmethod(functional.conv_transpose2d), 2

    if TYPE_CHECKING:

        def fold(self, *, check_finite: bool = True) -> nn.ConvTranspose2d: ...  # noqa: D102
        def fuse(self) -> nn.ConvTranspose2d: ...  # noqa: D102


class DOConvTranspose3d(_DOConvTranspose, nn.ConvTranspose3d):
    """An over-parameterized `nn.ConvTranspose3d`: its arguments, and ours by keyword.

    Shapes: input `(N, C_in, D, H, W)`, output `(N, C_out, D', H', W')`; `weight` (W)
    `(C_in, C_out/G, *K)`, `depthwise_delta` (D') `(C_out, D_mul, *K)`, `bias` `(C_out,)`.

    Examples:
        >>> import torch
        >>> from do_conv.torch import DOConvTranspose3d
        >>> layer = DOConvTranspose3d(3, 16, 3, stride=2)
        >>> layer(torch.randn(1, 3, 8, 8, 8)).shape
        torch.Size([1, 16, 17, 17, 17])
        >>> layer.fold()
        ConvTranspose3d(3, 16, kernel_size=(3, 3, 3), stride=(2, 2, 2))
    """

    _plain, _operator, _rank = nn.ConvTranspose3d, staticmethod(functional.conv_transpose3d), 3

    if TYPE_CHECKING:

        def fold(self, *, check_finite: bool = True) -> nn.ConvTranspose3d: ...  # noqa: D102
        def fuse(self) -> nn.ConvTranspose3d: ...  # noqa: D102
