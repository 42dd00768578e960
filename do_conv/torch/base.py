"""The bases of the layers, whose kernel is composed of W and a depthwise kernel.

Composed            an `nn.Conv` that convolves by either composition
OverParameterized   a Composed whose depthwise kernel is I + D', and which folds to the plain layer
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
from do_conv.core.errors import DOConvError
from do_conv.core.rules import CompositionName, DepthwiseInit
from do_conv.core.spec import Spec
from do_conv.models import checks
from do_conv.torch.composition import (
    compose_spec,
    depthwise_kernel,
    has_autocast,
    pointwise_kernel,
)
from do_conv.torch.other_tools import check_other_tools
from do_conv.torch.plain import deploy
from do_conv.torch.starts import start_delta


class Composed(_ConvNd):
    """A convolution whose kernel is composed.

    Among a class's bases it stands before the plain layer, whose methods it extends.

    Attributes:
        spec: the sizes; its channels are None in a lazy layer that has seen no input.
        composition: "kernel" or "feature"; it may be changed at any time.
    """

    _plain: ClassVar[Callable[..., Any]]  # the plain layer's class
    _operator: ClassVar[Callable[..., Tensor]]  # PyTorch's convolution, or transposed one
    _rank: ClassVar[int]
    _delta_name: ClassVar[str]  # the parameter on top of W: D', or the D of a separable layer

    spec: Spec
    composition: CompositionName
    # The kernel that is kept within `do_conv.torch.models.training.composed`.
    _kept: Any = None

    def __init__(
        self,
        spec: Spec,
        composition: CompositionName,
        plain: tuple[Any, ...],
        device: Any,
        dtype: Any,
    ) -> None:
        """Make the plain layer of these arguments, then the parameters in our shapes."""
        self.spec, self.composition = spec, rules.composition(composition)
        # PyTorch draws no random numbers for a weight on "meta": with the same seed, W and the bias
        # are drawn below as a plain layer's are.
        super().__init__(*plain, "meta", dtype)  # type: ignore[call-arg]  # the plain layer's
        for name, shape in self._shapes().items():
            parameter = None if shape is None else _empty(shape, spec.is_known, device, dtype)
            self.register_parameter(name, parameter)
        self.reset_parameters()

    def _check_in_channels(self, in_channels: Any) -> int | None:
        """The input's channels, which a layer that is not lazy knows when it is made."""
        return rules.integer("in_channels", in_channels)

    def _shapes(self) -> dict[str, tuple[Any, ...] | None]:
        """The shape of each parameter; None where there is no such parameter."""
        return {
            "weight": self.spec.weight_shape,
            "bias": None if self.bias is None else (self.out_channels,),
            self._delta_name: self.spec.delta_shape if self.spec.has_delta else None,
        }

    def composed_weight(self) -> Tensor:
        """W', the kernel that is applied, in the plain shape, differentiable in W and D (or D')."""
        if self._kept is not None:
            return self._kept.check()
        delta = getattr(self, self._delta_name)
        return self.weight if delta is None else compose_spec(self.weight, delta, self.spec)

    def forward(self, input: Tensor) -> Tensor:
        """Convolve `input`, `(N, C_in, *size)` or `(C_in, *size)`, in the chosen composition.

        Raises:
            DOConvError: if the input's rank, channels or dtype are not the layer's.
        """
        self._check_input(input)
        if self._convolves_twice():
            return self._convolve_features(input)
        return self._conv_forward(input, self.composed_weight(), self.bias)

    def _convolves_twice(self) -> bool:
        """Whether feature composition is chosen, and there is a D to convolve with."""
        return rules.composition(self.composition) == "feature" and self.spec.has_delta

    def _convolve_features(self, input: Tensor) -> Tensor:
        """Feature composition: stride, padding and dilation belong to the depthwise convolution."""
        padding: Any = self.padding
        if self.padding_mode != "zeros":
            input = functional.pad(
                input, self._reversed_padding_repeated_twice, mode=self.padding_mode
            )
            padding = 0
        depthwise = self._depthwise_kernel()
        features = self._operator(
            input, depthwise, None, self.stride, padding, self.dilation, self.in_channels
        )
        return self._operator(features, self._pointwise_kernel(), self.bias, groups=self.groups)

    def _depthwise_kernel(self) -> Tensor:
        """D as a depthwise convolution's kernel, `(C_in * D_mul, 1, *K)`."""
        return depthwise_kernel(getattr(self, self._delta_name), self.spec)

    def _pointwise_kernel(self) -> Tensor:
        """W as a grouped pointwise convolution's kernel, `(C_out, C_in/G * D_mul, 1, ...)`."""
        return pointwise_kernel(self.weight, self.spec)

    def _check_input(self, input: Tensor) -> None:
        check_other_tools(self)
        if torch.jit.is_tracing() or isinstance(input, Proxy):
            return  # checks would be traced as constants, and fail on a Proxy
        check_kind(input)
        rules.input_shape(input.shape, self._rank, self.in_channels, unbatched=True)
        if input.dtype != self.weight.dtype and not has_autocast(input):
            rules.input_dtype(input.dtype, self.weight.dtype)

    def fold(self, *, check_finite: bool = True) -> nn.Module:
        """Make what is deployed in the layer's place."""
        raise NotImplementedError

    def check_forward(self) -> None:
        """Refuse to fold a subclass that has another forward pass than a plain layer's.

        Raises:
            DOConvError: if it has.
        """
        remedy = f"derive it from {self._plain.__name__} and convert it: folding restores it"
        checks.forward_of_ours(type(self), self._plain, ("forward", "_conv_forward"), remedy)


class OverParameterized(Composed):
    """A convolution over-parameterized by a depthwise kernel (Cao et al., arXiv 2006.12030).

    Attributes:
        weight: W, in the plain layer's shape, or with D_mul in place of *K where D_mul is not |K|.
            It is not the kernel that is applied: that is `composed_weight()`.
        depthwise_delta: D' = D - I, `(C_in, D_mul, *K)`, for a transposed layer
            `(C_out, D_mul, *K)`; None where |K| = 1.
        bias: `(C_out,)` or None.
    """

    _delta_name = "depthwise_delta"

    depthwise_init: DepthwiseInit
    depthwise_delta: nn.Parameter | None

    def __init__(
        self,
        spec: Spec,
        composition: CompositionName,
        depthwise_init: DepthwiseInit,
        plain: tuple[Any, ...],
        device: Any,
        dtype: Any,
    ) -> None:
        self.depthwise_init = rules.depthwise_init(depthwise_init)
        super().__init__(spec, composition, plain, device, dtype)

    def reset_parameters(self) -> None:
        """Draw W and the bias as the plain layer draws them, and D' as `depthwise_init` says."""
        super().reset_parameters()
        # The plain layer's constructor calls this before D' exists.
        delta = self._parameters.get("depthwise_delta")
        if delta is not None:
            start_delta(delta, self.depthwise_init, self.spec)

    def fold(self, *, check_finite: bool = True) -> Any:
        """Make the plain layer that does the same: to the last bit, in eager mode.

        Args:
            check_finite: False folds parameters that hold NaN or infinity, too.

        Returns:
            a new layer of the plain class with W' as its weight, in the same mode and dtype, on the
            same device.

        Raises:
            DOConvError: if W' or the bias is not finite, there are no parameters yet, or the layer
                is of a subclass with a forward pass of its own.
        """
        self.check_forward()
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
        """The plain layer's, and the options that are not the default."""
        return super().extra_repr() + self.spec.differences(self.depthwise_init, self.composition)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], strict: bool,
        missing_keys: list[str], unexpected_keys: list[str], error_msgs: list[str],
    ) -> None:  # fmt: skip
        """Load W, D' and the bias; in a plain layer's checkpoint no D' means the identity."""
        weight: Any = state_dict.get(prefix + "weight")
        key = prefix + "depthwise_delta"
        is_alone = self.depthwise_delta is not None and weight is not None and key not in state_dict
        try:
            self._check_stored(state_dict, prefix)
            if is_alone:  # a W with more slots than kernel positions is no plain layer's
                is_plain = self.spec.has_plain_weight
                rules.loaded_together(prefix + "weight", key, "checkpoint", is_plain)
        except DOConvError as error:
            error_msgs.append(str(error))
            return
        if is_alone:
            state_dict = {**state_dict, key: weight.new_zeros(self.spec.delta_shape)}
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    def _check_stored(self, state_dict: dict[str, Any], prefix: str) -> None:
        """Compare the shapes of stored parameters with the layer's."""
        shapes = self._shapes() if self.spec.is_known else {}
        for name in ("weight", "depthwise_delta"):
            shape, stored = shapes.get(name), state_dict.get(prefix + name)
            if not (shape is None or stored is None or is_lazy(stored)):
                rules.stored_shape(prefix + name, shape, stored.shape)


def check_kind(input: Any) -> None:
    """Refuse an input that is not a tensor.

    Raises:
        DOConvError: if it is not.
    """
    rules.input_kind(isinstance(input, Tensor), "torch.Tensor", type(input).__name__)


def _empty(shape: tuple[Any, ...], is_known: bool, device: Any, dtype: Any) -> Any:
    """An empty parameter; in a layer whose sizes are not known yet, one without a shape.

    The bias, whose shape is known, waits for W, with which it is drawn.
    """
    if not is_known:
        return UninitializedParameter(device=device, dtype=dtype)  # type: ignore[call-arg]
    return nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
