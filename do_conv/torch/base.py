"""What the layers have in common: a kernel composed of W and a depthwise kernel.

Composed            an `nn.Conv` that convolves by either composition
OverParameterized   one whose depthwise kernel is I + D', and which folds to the plain layer
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.fx import Proxy
from torch.nn import functional
from torch.nn.modules.conv import _ConvNd
from torch.nn.parameter import UninitializedParameter, is_lazy

from do_conv.core import rules
from do_conv.core.errors import DOConvError, broken
from do_conv.core.rules import CompositionName, DepthwiseInit
from do_conv.core.spec import Spec
from do_conv.torch.composition import compose_spec, depthwise_kernel, pointwise_kernel
from do_conv.torch.other_tools import check_other_tools
from do_conv.torch.starts import start_delta


class Composed(_ConvNd):
    """A convolution whose kernel is composed; it stands before a plain one among a class's bases.

    Attributes:
        spec: the sizes; its channels are None in a lazy layer that has seen no input.
        composition: "kernel" or "feature"; it may be changed at any time.
    """

    _plain: ClassVar[Callable[..., Any]]
    _convolve: ClassVar[Callable[..., Tensor]]
    _rank: ClassVar[int]

    spec: Spec
    composition: CompositionName

    def _make(
        self,
        spec: Spec,
        composition: CompositionName,
        plain: tuple[Any, ...],
        device: Any,
        dtype: Any,
    ) -> None:
        """Make the plain layer, then the parameters in our shapes, and start them."""
        super().__init__(*plain, "meta", dtype)  # type: ignore[call-arg]  # the plain layer's
        self.spec, self.composition = spec, rules.composition(composition)
        for name, shape in self._shapes().items():
            self.register_parameter(name, _parameter(shape, spec.is_known, device, dtype))
        self.reset_parameters()

    def _known(self, in_channels: Any) -> int | None:
        """The input's channels, where they must be known when the layer is made."""
        return rules.integer("in_channels", in_channels)

    def _shapes(self) -> dict[str, tuple[Any, ...] | None]:
        """The shape of each parameter; None where there is no such parameter."""
        bias = None if self.bias is None else (self.out_channels,)
        return {"weight": self.spec.weight_shape, "bias": bias}

    def _is_made(self) -> bool:
        """Whether the parameters have our shapes: not in a lazy layer that has seen no input."""
        return "spec" in self.__dict__ and self.spec.is_known

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        # The plain layer's constructor calls this for a weight that will be replaced. Nothing is
        # drawn for it, so that with the same seed a plain layer's numbers are drawn next.
        if self._is_made():
            self._start()

    def _start(self) -> None:
        """Draw W and the bias as the plain layer draws them."""
        super().reset_parameters()

    def composed_weight(self) -> Tensor:
        """W', the kernel that is applied, `(C_out, C_in/G, *K)`, differentiable in W and D."""
        raise NotImplementedError

    def fold(self, *, check_finite: bool = True) -> nn.Module:
        """What is deployed in the layer's place."""
        raise NotImplementedError

    def _depthwise(self) -> Tensor | None:
        """D as a depthwise convolution's kernel, `(C_in * D_mul, 1, *K)`; None if there is none."""
        raise NotImplementedError

    def _chosen_depthwise(self) -> Tensor | None:
        """D under feature composition; None where one kernel is composed."""
        return self._depthwise() if rules.composition(self.composition) == "feature" else None

    def forward(self, input: Tensor) -> Tensor:
        """Convolve `input`, `(N, C_in, *size)` or `(C_in, *size)`, in the chosen composition.

        Raises:
            DOConvError: if the input's rank, channels or dtype are not the layer's.
        """
        self._check_input(input)
        depthwise = self._chosen_depthwise()
        if depthwise is None:
            return self._conv_forward(input, self.composed_weight(), self.bias)
        return self._convolve_features(input, depthwise)

    def _convolve_features(self, input: Tensor, depthwise: Tensor) -> Tensor:
        """Feature composition: stride, padding and dilation belong to the depthwise convolution."""
        padding: Any = self.padding
        if self.padding_mode != "zeros":
            input = functional.pad(
                input, self._reversed_padding_repeated_twice, mode=self.padding_mode
            )
            padding = 0
        features = self._convolve(
            input, depthwise, None, self.stride, padding, self.dilation, self.in_channels
        )
        return self._convolve(
            features, pointwise_kernel(self.weight, self.spec), self.bias, groups=self.groups
        )

    def _check_input(self, input: Tensor) -> None:
        check_other_tools(self)
        if torch.jit.is_tracing() or isinstance(input, Proxy):
            return  # a trace would keep the questions as constants, and a Proxy has no answers
        check_kind(input)
        rules.input_shape(input.shape, self._rank, self.in_channels, unbatched=True)
        if input.dtype != self.weight.dtype and not torch.is_autocast_enabled(input.device.type):
            rules.input_dtype(input.dtype, self.weight.dtype)


class OverParameterized(Composed):
    """A convolution over-parameterized by a depthwise kernel (Cao et al., arXiv 2006.12030).

    Attributes:
        weight: W, in the plain layer's shape, or with D_mul in place of *K where D_mul is not |K|.
            It is not the kernel that is applied: that is `composed_weight()`.
        depthwise_delta: D' = D - I, `(C_in, D_mul, *K)`, for a transposed layer
            `(C_out, D_mul, *K)`; None where |K| = 1.
        bias: `(C_out,)` or None.
    """

    depthwise_init: DepthwiseInit
    depthwise_delta: nn.Parameter | None
    # The kernel that is kept within `do_conv.torch.models.training.composed`.
    _kept: Any = None

    def _shapes(self) -> dict[str, tuple[Any, ...] | None]:
        delta = self.spec.delta_shape if self.spec.has_delta else None
        return {**super()._shapes(), "depthwise_delta": delta}

    def _over_parameterize(
        self,
        spec: Spec,
        composition: CompositionName,
        depthwise_init: DepthwiseInit,
        *arguments: Any,
    ) -> None:
        """Make the layer; a module takes plain attributes before it is made."""
        self.depthwise_init = rules.depthwise_init(depthwise_init)
        self._make(spec, composition, *arguments)

    def _start(self) -> None:
        super()._start()
        if self.depthwise_delta is not None:
            start_delta(self.depthwise_delta, self.depthwise_init, self.spec)

    def composed_weight(self) -> Tensor:
        """W', the kernel that is applied, in the plain shape, differentiable in W and D'."""
        if self.depthwise_delta is None:
            return self.weight
        if self._kept is not None:
            return self._kept.check()
        return compose_spec(self.weight, self.depthwise_delta, self.spec)

    def _depthwise(self) -> Tensor | None:
        if self.depthwise_delta is None:
            return None
        return depthwise_kernel(self.depthwise_delta, self.spec)

    def fold(self, *, check_finite: bool = True) -> Any:
        """The plain layer that does the same: to the last bit, in eager mode.

        Args:
            check_finite: False folds parameters that hold NaN or infinity, too.

        Returns:
            a new layer of the plain class with W' as its weight, in the same mode and dtype, on the
            same device.

        Raises:
            DOConvError: if W' or the bias is not finite, or there are no parameters yet.
        """
        weight = self.composed_weight()
        plain = self._plain(*self._plain_arguments(), "meta").train(self.training)
        deploy(plain, check_finite, weight=(weight, self.weight), bias=(self.bias, self.bias))
        return plain

    def fuse(self) -> Any:
        """`fold`, under the name by which timm's `reparameterize_model` asks for it."""
        return self.fold()

    def _plain_arguments(self) -> tuple[Any, ...]:
        """The arguments of the plain layer, up to `padding_mode`."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        """What the plain layer shows, and what differs from the defaults."""
        return super().extra_repr() + self.spec.differences(self.depthwise_init, self.composition)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], strict: bool,
        missing_keys: list[str], unexpected_keys: list[str], error_msgs: list[str],
    ) -> None:  # fmt: skip
        """Load W, D' and the bias; in a plain layer's checkpoint no D' means the identity."""
        for name in ("weight", "depthwise_delta"):
            parameter, stored = self._parameters.get(name), state_dict.get(prefix + name)
            if parameter is None or stored is None or is_lazy(parameter) or is_lazy(stored):
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
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


def plain_arguments(
    spec: Spec, stride: Any, padding: Any, dilation: Any, bias: Any, padding_mode: Any
) -> tuple[Any, ...]:
    """The arguments of `nn.Conv` up to `padding_mode`, each checked.

    Raises:
        DOConvError: if an argument breaks a rule.
    """
    stride, padding = rules.axes("stride", stride, spec.rank), rules.padding(padding, spec.rank)
    if padding == "same" and set(stride) != {1}:
        raise broken(
            "padding='same' needs stride 1 in PyTorch",
            f"stride={stride}",
            "give the padding in integers",
        )
    return (
        spec.in_channels or 0,
        spec.out_channels,
        spec.kernel_size,
        stride,
        padding,
        rules.axes("dilation", dilation, spec.rank),
        spec.groups,
        bias,
        rules.choice("padding_mode", padding_mode, rules.PADDING_MODES),
    )


def deploy(
    plain: nn.Module, check_finite: bool = False, **tensors: tuple[Tensor | None, Tensor | None]
) -> None:
    """Give a layer its tensors, by name; each is trained if the parameter it comes from is.

    Raises:
        DOConvError: if `check_finite` is asked for, and one is not.
    """
    for name, (tensor, source) in tensors.items():
        if tensor is None or source is None:
            continue
        if check_finite and not tensor.is_meta:
            rules.finite(name, bool(tensor.isfinite().all()))
        value = tensor.detach().clone()
        setattr(plain, name, nn.Parameter(value, requires_grad=source.requires_grad))


def check_kind(input: Any) -> None:
    """Refuse what is not a tensor.

    Raises:
        DOConvError: if it is none.
    """
    rules.input_kind(isinstance(input, Tensor), "torch.Tensor", type(input).__name__)


def _parameter(shape: tuple[Any, ...] | None, is_known: bool, device: Any, dtype: Any) -> Any:
    """An empty parameter, or None; in a layer whose sizes are not known yet, one without a shape.

    The bias, whose shape is known, waits for the others, with which it is drawn.
    """
    if shape is None:
        return None
    if not is_known:
        return UninitializedParameter(device=device, dtype=dtype)  # type: ignore[call-arg]
    return nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
