"""Depthwise separable convolutions: trained by kernel composition, deployed as the two they are.

Section 3 of the paper proposes it. No nonlinearity and no normalisation stands between the two, as
in Xception and in Keras's `SeparableConv2D`; MobileNet's blocks have both, and do not compose.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn import functional

from do_conv.core import rules
from do_conv.core.rules import CompositionName, PaddingMode
from do_conv.core.spec import SeparableSpec
from do_conv.models import checks
from do_conv.torch.base import Composed
from do_conv.torch.keywords import checks_names
from do_conv.torch.layout import channels_last, is_channels_last
from do_conv.torch.plain import deploy, plain_arguments
from do_conv.torch.starts import start_kernel

LayerT = TypeVar("LayerT", bound="_DepthwiseSeparable")


class _DepthwiseSeparable(Composed):
    """The separable layers of every rank.

    Attributes:
        weight: W, the pointwise kernel, `(C_out, C_in/G, D_mul)`.
        depthwise_weight: D, the depthwise kernel, `(C_in, D_mul, *K)`.
        bias: `(C_out,)` or None.
    """

    _delta_name = "depthwise_weight"

    depthwise_weight: nn.Parameter

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
        d_mul: int = 1,
        composition: CompositionName = "kernel",
    ) -> None:
        """The arguments before `d_mul` are those of `nn.Conv1d`, `2d` or `3d`.

        Args:
            stride, padding, dilation: of the depthwise convolution.
            groups: G, those of the pointwise convolution.
            bias: whether the pointwise convolution adds a bias.
            d_mul: D_mul, the depthwise convolution's outputs for each input channel.
            composition: "kernel" composes one kernel and convolves once; "feature" convolves twice
                (equation 3). Both give the same output; the attribute may be changed at any time.

        Raises:
            DOConvError: if an argument breaks a rule; the message names it.
        """
        spec = SeparableSpec(
            rules.integer("in_channels", in_channels),
            rules.integer("out_channels", out_channels),
            rules.axes("kernel_size", kernel_size, self._rank),
            groups,
            d_mul,
        )
        plain = plain_arguments(spec, stride, padding, dilation, bias, padding_mode)
        super().__init__(spec, composition, plain, device, dtype)

    @classmethod
    def from_pair(
        cls: type[LayerT],
        depthwise: Any,
        pointwise: Any,
        *,
        composition: CompositionName = "kernel",
    ) -> LayerT:
        """Build the layer from a depthwise and a pointwise one, with copies of their weights.

        Args:
            depthwise: an `nn.Conv` with a group for each input channel and no bias.
            pointwise: the `nn.Conv` that follows it, of one position, with stride 1 and no padding.
            composition: as for a new layer.

        Raises:
            DOConvError: if the two are not a separable pair.
        """
        checks.separable_pair(_is_pair(depthwise, pointwise), depthwise, pointwise)
        d_mul = depthwise.out_channels // depthwise.in_channels
        layer = cls(
            depthwise.in_channels,
            pointwise.out_channels,
            depthwise.kernel_size,
            depthwise.stride,
            depthwise.padding,
            depthwise.dilation,
            pointwise.groups,
            pointwise.bias is not None,
            depthwise.padding_mode,
            "meta",
            d_mul=d_mul,
            composition=composition,
        ).train(depthwise.training)
        deploy(
            layer,
            weight=(pointwise.weight.reshape(layer.spec.weight_shape), pointwise.weight),
            depthwise_weight=(depthwise.weight.reshape(layer.spec.delta_shape), depthwise.weight),
            bias=(pointwise.bias, pointwise.bias),
        )
        return layer

    def reset_parameters(self) -> None:
        """Draw D, then W and the bias, as the two plain layers draw theirs."""
        # The plain layer's constructor calls this before D exists.
        if "depthwise_weight" in self._parameters:
            start_kernel(self._depthwise_kernel())
        super().reset_parameters()

    def fold(self, *, check_finite: bool = True) -> nn.Sequential:
        """Make the two plain layers that do the same, at the cost of feature composition.

        Args:
            check_finite: False folds parameters that hold NaN or infinity, too.

        Returns:
            a new `nn.Sequential` of two, `depthwise` and `pointwise`, in the same mode and dtype,
            on the same device.

        Raises:
            DOConvError: if W, D or the bias is not finite, or the layer is of a subclass with a
                forward pass of its own.
        """
        self.check_forward()
        features = self.in_channels * self.spec.d_mul
        window = (self.stride, self.padding, self.dilation)
        depthwise = self._plain(
            self.in_channels,
            features,
            self.kernel_size,
            *window,
            self.in_channels,
            False,
            self.padding_mode,
            "meta",
        )
        pointwise = self._plain(
            features, self.out_channels, 1, groups=self.groups, bias=self.bias is not None,
            device="meta",
        )  # fmt: skip
        kernels = self._depthwise_kernel(), self._pointwise_kernel()
        if is_channels_last(self.depthwise_weight):
            kernels = kernels[0], channels_last(kernels[1])
        deploy(depthwise, check_finite, weight=(kernels[0], self.depthwise_weight))
        deploy(
            pointwise, check_finite, weight=(kernels[1], self.weight), bias=(self.bias, self.bias)
        )
        pair = nn.Sequential(OrderedDict(depthwise=depthwise, pointwise=pointwise))
        return pair.train(self.training)

    def extra_repr(self) -> str:
        """The plain layer's, D_mul and the composition."""
        return super().extra_repr() + self.spec.differences("identity", self.composition)


def _is_pair(depthwise: Any, pointwise: Any) -> bool:
    """Whether the two layers are a depthwise and a pointwise convolution, in this order."""
    return (
        not any(isinstance(layer, Composed) or layer.transposed for layer in (depthwise, pointwise))
        and depthwise.groups == depthwise.in_channels
        and depthwise.bias is None
        and depthwise.out_channels == pointwise.in_channels
        and set(pointwise.kernel_size) == set(pointwise.stride) == {1}
        and pointwise.padding in ("valid", "same", (0,) * len(pointwise.kernel_size))
    )


class DepthwiseSeparableConv1d(_DepthwiseSeparable, nn.Conv1d):
    """A depthwise and a pointwise `nn.Conv1d`, trained as one.

    Shapes: input `(N, C_in, L)`, output `(N, C_out, L')`; `weight` (W)
    `(C_out, C_in/G, D_mul)`, `depthwise_weight` (D) `(C_in, D_mul, *K)`, `bias` `(C_out,)`.

    Examples:
        >>> import torch
        >>> from do_conv.torch import DepthwiseSeparableConv1d
        >>> layer = DepthwiseSeparableConv1d(3, 16, 3, padding=1)
        >>> layer(torch.randn(1, 3, 8)).shape
        torch.Size([1, 16, 8])
        >>> [type(one).__name__ for one in layer.fold()]
        ['Conv1d', 'Conv1d']
    """

    _plain, _operator, _rank = nn.Conv1d, staticmethod(functional.conv1d), 1


class DepthwiseSeparableConv2d(_DepthwiseSeparable, nn.Conv2d):
    """A depthwise and a pointwise `nn.Conv2d`, trained as one.

    Shapes: input `(N, C_in, H, W)`, output `(N, C_out, H', W')`; `weight` (W)
    `(C_out, C_in/G, D_mul)`, `depthwise_weight` (D) `(C_in, D_mul, *K)`, `bias` `(C_out,)`.

    Examples:
        >>> import torch
        >>> from do_conv.torch import DepthwiseSeparableConv2d
        >>> layer = DepthwiseSeparableConv2d(3, 16, 3, padding=1)
        >>> layer(torch.randn(1, 3, 8, 8)).shape
        torch.Size([1, 16, 8, 8])
        >>> [type(one).__name__ for one in layer.fold()]
        ['Conv2d', 'Conv2d']
    """

    _plain, _operator, _rank = nn.Conv2d, staticmethod(functional.conv2d), 2


class DepthwiseSeparableConv3d(_DepthwiseSeparable, nn.Conv3d):
    """A depthwise and a pointwise `nn.Conv3d`, trained as one.

    Shapes: input `(N, C_in, D, H, W)`, output `(N, C_out, D', H', W')`; `weight` (W)
    `(C_out, C_in/G, D_mul)`, `depthwise_weight` (D) `(C_in, D_mul, *K)`, `bias` `(C_out,)`.

    Examples:
        >>> import torch
        >>> from do_conv.torch import DepthwiseSeparableConv3d
        >>> layer = DepthwiseSeparableConv3d(3, 16, 3, padding=1)
        >>> layer(torch.randn(1, 3, 8, 8, 8)).shape
        torch.Size([1, 16, 8, 8, 8])
        >>> [type(one).__name__ for one in layer.fold()]
        ['Conv3d', 'Conv3d']
    """

    _plain, _operator, _rank = nn.Conv3d, staticmethod(functional.conv3d), 3
