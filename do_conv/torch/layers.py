"""The layers: an `nn.Conv` that trains W and D', and convolves with the kernel composed of both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.conv import _ConvNd

from do_conv.core import rules
from do_conv.core.errors import DOConvError
from do_conv.core.spec import Spec
from do_conv.core.starts import delta_start
from do_conv.torch.composition import compose_spec, depthwise_kernel, pointwise_kernel


class _DOConv(_ConvNd):
    """A convolution over-parameterized by a depthwise kernel (Cao et al., arXiv 2006.12030).

    It takes the arguments of the layer it replaces, in their order, and is one of its kind.

    Attributes:
        weight: W, `(C_out, C_in/G, *K)`, or `(C_out, C_in/G, D_mul)` where D_mul is not |K|. It is
            not the kernel that is applied: that is `composed_weight()`.
        depthwise_delta: D' = D - I, `(C_in, D_mul, *K)`; None where |K| = 1.
        bias: `(C_out,)` or None.
    """

    _plain: ClassVar[Callable[..., Any]]
    _convolve: ClassVar[Callable[..., Tensor]]
    _rank: ClassVar[int]

    depthwise_delta: nn.Parameter | None

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
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        d_mul: int | None = None,
        depthwise_init: str = "identity",
        composition: str = "kernel",
    ) -> None:
        """Make the layer.

        Args:
            in_channels: C_in.
            out_channels: C_out.
            kernel_size: K, an integer or one per spatial axis.
            stride: an integer or one per axis.
            padding: an integer, one per axis, "valid", or "same" (stride 1 only).
            dilation: an integer or one per axis.
            groups: G; 1 is DO-Conv, C_in is DO-DConv, anything between is DO-GConv.
            bias: whether to add a bias.
            padding_mode: "zeros", "reflect", "replicate" or "circular".
            device: where the parameters are made.
            dtype: their type.
            d_mul: D_mul, at least |K|, the default. Where |K| = 1 the layer is the plain one.
            depthwise_init: how D starts (Table 7): "identity", with which the layer starts as the
                plain one, or "he", normal with standard deviation `sqrt(2/|K|)`.
            composition: "kernel" composes one kernel and convolves once; "feature" convolves twice
                (equation 3). Both give the same output; the attribute may be changed at any time.

        Raises:
            DOConvError: if an argument breaks a rule; the message names it.
        """
        rank = self._rank
        kernel_size = rules.axes("kernel_size", kernel_size, rank)
        spec = Spec(
            rules.integer("in_channels", in_channels), out_channels, kernel_size, groups, d_mul
        )
        stride = rules.axes("stride", stride, rank)
        padding = rules.padding(padding, rank)
        rules.same_needs_stride_one(padding, stride)
        arguments: tuple[Any, ...] = (
            spec.in_channels,
            spec.out_channels,
            kernel_size,
            stride,
            padding,
            rules.axes("dilation", dilation, rank),
            spec.groups,
            bias,
            rules.choice("padding_mode", padding_mode, rules.PADDING_MODES),
            device,
            dtype,
        )
        super().__init__(*arguments)
        self.spec = spec
        self.depthwise_init = rules.depthwise_init(depthwise_init)
        self.composition = rules.composition(composition)
        delta = nn.Parameter(self.weight.new_empty(spec.delta_shape)) if spec.has_delta else None
        self.register_parameter("depthwise_delta", delta)
        if spec.has_plain_weight:
            # W and the bias are drawn already: with the same seed, they are the plain layer's.
            self._reset_depthwise_delta()
        else:
            self.weight = nn.Parameter(self.weight.new_empty(spec.weight_shape))
            self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw W and the bias as the plain layer draws them, and D' as `depthwise_init` says."""
        super().reset_parameters()
        # The plain layer's constructor calls this before there is a D'.
        if "depthwise_delta" in self._parameters:
            self._reset_depthwise_delta()

    @torch.no_grad()
    def _reset_depthwise_delta(self) -> None:
        if self.depthwise_delta is None:
            return
        start = delta_start(self.depthwise_init, self.spec)
        nn.init.zeros_(self.depthwise_delta)
        if start.std:
            nn.init.normal_(self.depthwise_delta, 0, start.std)
            self.depthwise_delta.add_(torch.as_tensor(start.mean).to(self.depthwise_delta))

    def composed_weight(self) -> Tensor:
        """W', the kernel that is applied, `(C_out, C_in/G, *K)`, differentiable in W and D'."""
        if self.depthwise_delta is None:
            return self.weight
        return compose_spec(self.weight, self.depthwise_delta, self.spec)

    def forward(self, input: Tensor) -> Tensor:
        """Convolve `input`, `(N, C_in, *size)` or `(C_in, *size)`, in the chosen composition.

        Raises:
            DOConvError: if the input's rank, channels or dtype are not the layer's.
        """
        self._check_input(input)
        if rules.composition(self.composition) == "feature" and self.depthwise_delta is not None:
            return self._convolve_features(input, self.depthwise_delta)
        return self._conv_forward(input, self.composed_weight(), self.bias)

    def _convolve_features(self, input: Tensor, delta: Tensor) -> Tensor:
        """Feature composition: stride, padding and dilation belong to the depthwise convolution."""
        padding: Any = self.padding
        if self.padding_mode != "zeros":
            input = functional.pad(
                input, self._reversed_padding_repeated_twice, mode=self.padding_mode
            )
            padding = 0
        features = self._convolve(
            input,
            depthwise_kernel(delta, self.spec),
            None,
            self.stride,
            padding,
            self.dilation,
            self.in_channels,
        )
        return self._convolve(
            features, pointwise_kernel(self.weight, self.spec), self.bias, groups=self.groups
        )

    def _check_input(self, input: Tensor) -> None:
        if torch.jit.is_tracing():
            return  # a trace would keep the questions as constants, and warn of each
        rules.input_shape(input.shape, self._rank, self.in_channels, unbatched=True)
        if input.dtype != self.weight.dtype and not torch.is_autocast_enabled(input.device.type):
            rules.input_dtype(input.dtype, self.weight.dtype)

    def fold(self, *, check_finite: bool = True) -> Any:
        """The plain layer that does the same: to the last bit, in eager mode.

        Args:
            check_finite: False folds parameters that hold NaN or infinity, too.

        Returns:
            a new `nn.Conv` of this rank with W' as its weight, in the same mode and dtype, on the
            same device.

        Raises:
            DOConvError: if W' or the bias is not finite.
        """
        tensors = {"weight": self.composed_weight(), "bias": self.bias}
        plain = self._plain(
            self.in_channels,
            self.out_channels,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            self.bias is not None,
            self.padding_mode,
            "meta",
        ).train(self.training)
        for name, tensor in tensors.items():
            if tensor is None:
                continue
            if check_finite and not tensor.is_meta:
                rules.finite(name, bool(tensor.isfinite().all()))
            trained = getattr(self, name).requires_grad
            setattr(plain, name, nn.Parameter(tensor.detach().clone(), requires_grad=trained))
        return plain

    def extra_repr(self) -> str:
        """What the plain layer shows, and what differs from the defaults."""
        return super().extra_repr() + self.spec.differences(self.depthwise_init, self.composition)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Load W, D' and the bias; in a plain layer's checkpoint no D' means the identity."""
        for name in ("weight", "depthwise_delta"):
            parameter, stored = self._parameters.get(name), state_dict.get(prefix + name)
            if parameter is None or stored is None:
                continue
            try:
                rules.stored_shape(prefix + name, parameter.shape, stored.shape)
            except DOConvError as error:
                error_msgs.append(str(error))
                return
        weight, key = state_dict.get(prefix + "weight"), prefix + "depthwise_delta"
        if self.depthwise_delta is not None and weight is not None and key not in state_dict:
            state_dict = {**state_dict, key: weight.new_zeros(self.spec.delta_shape)}
        super()._load_from_state_dict(
            state_dict,
            prefix,
            local_metadata,
            strict,
            missing_keys,
            unexpected_keys,
            error_msgs,
        )


class DOConv1d(_DOConv, nn.Conv1d):
    """An over-parameterized `nn.Conv1d`; its arguments, and three of our own, by keyword."""

    _plain, _convolve, _rank = nn.Conv1d, staticmethod(functional.conv1d), 1


class DOConv2d(_DOConv, nn.Conv2d):
    """An over-parameterized `nn.Conv2d`; its arguments, and three of our own, by keyword."""

    _plain, _convolve, _rank = nn.Conv2d, staticmethod(functional.conv2d), 2


class DOConv3d(_DOConv, nn.Conv3d):
    """An over-parameterized `nn.Conv3d`; its arguments, and three of our own, by keyword."""

    _plain, _convolve, _rank = nn.Conv3d, staticmethod(functional.conv3d), 3
