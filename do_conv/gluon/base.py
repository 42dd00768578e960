"""The bases of the layers, whose kernel is composed of W and a depthwise kernel.

Composed            an `nn.Conv` that convolves by either composition
OverParameterized   a Composed whose depthwise kernel is I + D', and which folds to the plain layer
"""

from __future__ import annotations

from typing import Any, ClassVar

import mxnet as mx
from mxnet.gluon import HybridBlock, nn

from do_conv.core import rules
from do_conv.core.errors import broken
from do_conv.core.rules import CompositionName, DepthwiseInit
from do_conv.core.spec import Spec
from do_conv.gluon.arrays import as_given, legacy_arrays
from do_conv.gluon.composition import (
    compose_spec,
    depthwise_kernel,
    pointwise_kernel,
    with_shapes_from,
)
from do_conv.gluon.deferred import Deferred
from do_conv.gluon.plain import (
    BlockOptions,
    activation_name,
    carry_activation,
    deploy,
    first,
    is_initialized,
    wait_for_parameters,
)
from do_conv.gluon.starts import DeltaStart
from do_conv.models import checks


class Composed(Deferred):
    """A convolution whose kernel is composed.

    Among a class's bases it stands before the plain layer, whose methods it extends.

    Attributes:
        composition: "kernel" or "feature"; it may be changed at any time, but a graph that was
            hybridized before is kept until `hybridize()` is called again.
    """

    _plain: ClassVar[Any]  # the plain layer's class
    _rank: ClassVar[int]
    _operator: ClassVar[str] = "Convolution"  # MXNet's operator

    composition: CompositionName

    def __init__(
        self,
        spec: Spec,
        composition: CompositionName,
        options: dict[str, Any],
        initializers: dict[str, Any],
        activation: str | None,
        block: BlockOptions,
    ) -> None:
        """Make the block, then the parameters in our shapes, in the order of `initializers`."""
        # Not the plain layer's constructor, which asks shared `params` for a plain weight.
        HybridBlock.__init__(self, **block)
        self._spec, self.composition = spec, rules.composition(composition)
        self._channels, self._in_channels = options["num_filter"], spec.in_channels or 0
        self._kwargs = options
        # A folded layer looks its operator up under this name.
        self._op_name = self._operator.lower() if mx.util.is_np_array() else self._operator
        shapes = self._shapes()
        with self.name_scope():
            for name, initializer in initializers.items():
                shape = shapes[name]
                parameter = None if shape is None else self._parameter(name, shape, initializer)
                setattr(self, name, parameter)
            self.act = nn.Activation(activation, prefix=f"{activation}_") if activation else None

    def _shapes(self) -> dict[str, tuple[Any, ...] | None]:
        """The shape of each parameter; None where there is no such parameter."""
        spec, no_bias = self._spec, self._kwargs["no_bias"]
        return {
            "weight": spec.weight_shape,
            "bias": None if no_bias else (spec.out_channels,),
            self._delta_name: spec.delta_shape if spec.has_delta else None,
        }

    def _parameter(self, name: str, shape: tuple[Any, ...], init: Any) -> Any:
        """A parameter, perhaps a shared one; 0 stands for a size that is not known yet."""
        known = tuple(size or 0 for size in shape)
        return self.params.get(name, shape=known, init=init, allow_deferred_init=True)

    def composed_weight(self, ctx: Any = None) -> Any:
        """W', the kernel that is applied, in the plain layer's shape; differentiable in both.

        Args:
            ctx: the context, if the parameters are in several.

        Raises:
            DOConvError: if the parameters are not there yet.
        """
        rules.built(self.name, is_initialized(self))
        weight, delta = self.weight.data(ctx), getattr(self, self._delta_name)
        if delta is None:
            return weight
        weight, delta = legacy_arrays(weight, delta.data(ctx))
        return as_given(compose_spec(mx.nd, weight, delta, self.spec))

    def forward(self, x: Any, *args: Any) -> Any:
        """Convolve `x`, `(N, C_in, *size)`, in the chosen composition.

        Raises:
            DOConvError: if the input's rank, channels or dtype are not the layer's.
        """
        # Before Gluon turns the parameters into variables, whose shapes are then fixed.
        self._complete_spec()
        is_array = isinstance(x, mx.nd.NDArray)
        rules.input_kind(is_array or isinstance(x, mx.sym.Symbol), "NDArray", type(x).__name__)
        if is_array:
            self._check_input(x)
        return super().forward(x, *args)

    def hybrid_forward(
        self,
        F: Any,  # noqa: N803
        x: Any,
        weight: Any,
        bias: Any = None,
        **depthwise: Any,
    ) -> Any:
        """The forward pass on NDArrays or Symbols."""
        delta = depthwise.get(self._delta_name)
        x, weight, bias, delta = legacy_arrays(x, weight, bias, delta)
        composition, spec = rules.composition(self.composition), self.spec
        if delta is not None and not spec.is_known:
            weight, delta = with_shapes_from(F, x, weight, delta, spec)
        if delta is None:
            out = self._convolve(F, x, weight, bias, self._kwargs)
        elif composition == "feature":
            kernel = depthwise_kernel(F, delta, spec, self.weight.dtype)
            out = self._convolve_features(F, x, pointwise_kernel(F, weight, spec), bias, kernel)
        else:
            out = self._convolve_composed(F, x, compose_spec(F, weight, delta, spec), bias)
        out = as_given(out)
        return out if self.act is None else self.act(out)

    def _convolve(self, F: Any, x: Any, kernel: Any, bias: Any, options: dict[str, Any]) -> Any:  # noqa: N803
        """Convolve with one kernel by MXNet's operator."""
        arrays = (x, kernel) if bias is None else (x, kernel, bias)
        return getattr(F, self._operator)(*arrays, name="fwd", **options)

    def _convolve_composed(self, F: Any, x: Any, kernel: Any, bias: Any) -> Any:  # noqa: N803
        """Kernel composition: convolve with W'."""
        return self._convolve(F, x, kernel, bias, self._kwargs)

    def _convolve_features(self, F: Any, x: Any, pointwise: Any, bias: Any, depthwise: Any) -> Any:  # noqa: N803
        """Feature composition: stride, padding and dilation belong to the depthwise convolution."""
        spec = self.spec
        in_channels = spec.in_channels
        if in_channels is None:
            raise broken(
                "feature composition must know the input's channels when its graph is made",
                "a hybridized network around a layer with in_channels=0",
                "give in_channels, or run the network once before hybridize()",
            )
        features = {"num_filter": in_channels * spec.d_mul, "num_group": in_channels}
        last = {
            "kernel": (1,) * spec.rank,
            "num_filter": self._channels,
            "num_group": spec.groups,
            "no_bias": bias is None,
        }
        x = self._convolve(F, x, depthwise, None, {**self._kwargs, **features, "no_bias": True})
        return self._convolve(F, x, pointwise, bias, last)

    def fold(self, *, check_finite: bool = True) -> Any:
        """Make what is deployed in the layer's place."""
        raise NotImplementedError

    def check_forward(self) -> None:
        """Refuse to fold a subclass that has another forward pass than a plain layer's.

        Raises:
            DOConvError: if it has.
        """
        remedy = f"derive it from {self._plain.__name__} and convert it: folding restores it"
        checks.forward_of_ours(type(self), self._plain, ("forward", "hybrid_forward"), remedy)

    def _plain_arguments(self) -> dict[str, Any]:
        """The arguments of the plain layer."""
        options = self._kwargs
        return {
            "channels": self._channels,
            "kernel_size": options["kernel"],
            "strides": options["stride"],
            "padding": options["pad"],
            "dilation": options["dilate"],
            "groups": options["num_group"],
            "layout": options["layout"],
            "activation": activation_name(self.act),
            "use_bias": self.bias is not None,
            "in_channels": self.spec.in_channels,
        }


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

    def __init__(
        self,
        spec: Spec,
        composition: CompositionName,
        depthwise_init: DepthwiseInit,
        options: dict[str, Any],
        initializers: dict[str, Any],
        activation: str | None,
        block: BlockOptions,
    ) -> None:
        self.depthwise_init = rules.depthwise_init(depthwise_init)
        start = DeltaStart(self.depthwise_init, spec.kernel_size, spec.d_mul)
        initializers = {**initializers, "depthwise_delta": start}
        super().__init__(spec, composition, options, initializers, activation, block)

    def fold(self, *, check_finite: bool = True) -> Any:
        """Make the plain layer that does the same.

        Args:
            check_finite: False folds parameters that hold NaN or infinity, too.

        Returns:
            a new plain layer of this rank with the same names, dtype and contexts, and W' as its
            weight.

        Raises:
            DOConvError: if the parameters are not there yet, W' or the bias is not finite, or the
                layer is of a subclass with a forward pass of its own.
        """
        wait_for_parameters(self)
        self.check_forward()
        plain = self._plain(**self._plain_arguments(), prefix=self.prefix)
        weight = self.composed_weight(self.weight.list_ctx()[0])
        deploy(
            plain, check_finite, weight=(weight, self.weight), bias=(first(self.bias), self.bias)
        )
        carry_activation(self.act, plain)
        return plain

    def __repr__(self) -> str:
        """The plain layer's, and the options that are not the default."""
        return super().__repr__()[:-1] + (
            self.spec.differences(self.depthwise_init, self.composition) + ")"
        )
