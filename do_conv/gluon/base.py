"""What the layers have in common: a kernel composed of W and a depthwise kernel.

Composed            an `nn.Conv` that convolves by either composition
OverParameterized   one whose depthwise kernel is I + D', and which folds to the plain layer
"""

from __future__ import annotations

from typing import Any, ClassVar, TypedDict

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
from do_conv.gluon.plain import deploy, first
from do_conv.gluon.starts import DeltaStart

# The shape of a parameter, in which None is a size not known yet, and its initializer.
Start = tuple[tuple[Any, ...], Any]


class BlockOptions(TypedDict, total=False):
    """What every Gluon block takes by keyword."""

    prefix: str | None
    params: Any


class Composed(Deferred):
    """A convolution whose kernel is composed; it stands before a plain one among a class's bases.

    Attributes:
        composition: "kernel" or "feature"; it may be changed at any time, but a graph that was
            hybridized before is kept until `hybridize()` is called again.
    """

    _plain: ClassVar[Any]
    _layout: ClassVar[str]
    _operator: ClassVar[str] = "Convolution"

    composition: CompositionName

    def _make(
        self,
        spec: Spec,
        composition: CompositionName,
        options: dict[str, Any],
        starts: dict[str, Start | None],
        activation: str | None,
        block: BlockOptions,
    ) -> None:
        """Make the block, then its parameters: None where there is no such parameter."""
        # Not by the plain layer's constructor: it asks shared `params` for a plain weight.
        HybridBlock.__init__(self, **block)
        self._spec, self.composition = spec, rules.composition(composition)
        self._channels, self._in_channels = options["num_filter"], spec.in_channels or 0
        self._kwargs = options
        # As the plain layer names its operator, which a folded one looks up.
        self._op_name = self._operator.lower() if mx.util.is_np_array() else self._operator
        with self.name_scope():
            for name, start in starts.items():
                setattr(self, name, None if start is None else self._parameter(name, *start))
            self.act = nn.Activation(activation, prefix=f"{activation}_") if activation else None

    @classmethod
    def _options(
        cls, spec: Spec, strides: Any, padding: Any, dilation: Any, layout: Any,
        use_bias: bool,
    ) -> dict[str, Any]:  # fmt: skip
        """The options of MXNet's operator, each checked.

        Raises:
            DOConvError: if an argument breaks a rule.
        """
        return {
            "kernel": spec.kernel_size,
            "stride": rules.axes("strides", strides, spec.rank),
            "dilate": rules.axes("dilation", dilation, spec.rank),
            "pad": rules.padding(padding, spec.rank, words=()),
            "num_filter": spec.out_channels,
            "num_group": spec.groups,
            "no_bias": not use_bias,
            "layout": rules.choice(
                "layout", cls._layout if layout is None else layout, (cls._layout,)
            ),
        }

    def _parameter(self, name: str, shape: tuple[Any, ...], init: Any) -> Any:
        """A parameter, perhaps a shared one; 0 stands for a size that is not known yet."""
        known = tuple(size or 0 for size in shape)
        return self.params.get(name, shape=known, init=init, allow_deferred_init=True)

    def forward(self, x: Any, *args: Any) -> Any:
        """Convolve `x`, `(N, C_in, *size)`, in the chosen composition.

        Raises:
            DOConvError: if the input's rank, channels or dtype are not the layer's.
        """
        # Before Gluon makes variables of the parameters, which keep the shapes they have then.
        self._complete()
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
        delta = depthwise.get(self._depthwise_name)
        x, weight, bias, delta = legacy_arrays(x, weight, bias, delta)
        composition, spec = rules.composition(self.composition), self.spec
        if delta is not None and not spec.is_known:
            weight, delta = with_shapes_from(F, x, weight, delta, spec)
        if composition == "feature" and delta is not None:
            kernel = depthwise_kernel(F, delta, spec, self.weight.dtype)
            out = self._convolve_features(F, x, pointwise_kernel(F, weight, spec), bias, kernel)
        elif delta is not None:
            out = self._convolve_kernel(F, x, compose_spec(F, weight, delta, spec), bias)
        else:
            out = self._convolve(F, x, weight, bias, self._kwargs)
        out = as_given(out)
        return out if self.act is None else self.act(out)

    def _convolve(self, F: Any, x: Any, kernel: Any, bias: Any, options: dict[str, Any]) -> Any:  # noqa: N803
        """MXNet's operator: without a bias it takes one argument fewer."""
        arrays = (x, kernel) if bias is None else (x, kernel, bias)
        return getattr(F, self._operator)(*arrays, name="fwd", **options)

    def _convolve_kernel(self, F: Any, x: Any, kernel: Any, bias: Any) -> Any:  # noqa: N803
        """Kernel composition, with a kernel that is computed."""
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

    def composed_weight(self, ctx: Any = None) -> Any:
        """W', the kernel that is applied, in the plain layer's shape; differentiable in both.

        Args:
            ctx: the context, if the parameters are in several.

        Raises:
            DOConvError: if the parameters are not there yet.
        """
        rules.built(self.name, self._is_initialized())
        weight, delta = self.weight.data(ctx), self._depthwise()
        if delta is None:
            return weight
        weight, delta = legacy_arrays(weight, delta.data(ctx))
        return as_given(compose_spec(mx.nd, weight, delta, self.spec))

    def fold(self, *, check_finite: bool = True) -> Any:
        """What is deployed in the layer's place."""
        raise NotImplementedError

    def _is_initialized(self) -> bool:
        return all(parameter._data is not None for parameter in self._reg_params.values())

    def _settle(self) -> None:
        """Wait until the parameters can be read."""
        rules.built(self.name, self._is_initialized())
        # MXNet lays a weight out anew while a convolution reads it: let those that run end first.
        mx.nd.waitall()

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
            "activation": None if self.act is None else self.act._act_type,
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

    _depthwise_name = "depthwise_delta"

    depthwise_init: DepthwiseInit

    def _over_parameterize(
        self,
        spec: Spec,
        composition: CompositionName,
        depthwise_init: DepthwiseInit,
        options: dict[str, Any],
        initializers: tuple[Any, Any],
        activation: str | None,
        block: BlockOptions,
    ) -> None:
        """Make the layer; the initializers are those of W and of the bias."""
        self.depthwise_init = rules.depthwise_init(depthwise_init)
        start = DeltaStart(self.depthwise_init, spec.kernel_size, spec.d_mul)
        starts: dict[str, Start | None] = {
            "weight": (spec.weight_shape, initializers[0]),
            "bias": bias_start(options, initializers[1]),
            "depthwise_delta": (spec.delta_shape, start) if spec.has_delta else None,
        }
        self._make(spec, composition, options, starts, activation, block)

    def fold(self, *, check_finite: bool = True) -> Any:
        """The plain layer that does the same.

        Args:
            check_finite: False folds parameters that hold NaN or infinity, too.

        Returns:
            a new plain layer of this rank with the same names, dtype and contexts, and W' as its
            weight.

        Raises:
            DOConvError: if the parameters are not there yet, or W' or the bias is not finite.
        """
        self._settle()
        plain = self._plain(**self._plain_arguments(), prefix=self.prefix)
        weight = self.composed_weight(self.weight.list_ctx()[0])
        deploy(
            plain, check_finite, weight=(weight, self.weight), bias=(first(self.bias), self.bias)
        )
        return plain

    def __repr__(self) -> str:
        """What the plain layer shows, and what differs from the defaults."""
        return super().__repr__()[:-1] + (
            self.spec.differences(self.depthwise_init, self.composition) + ")"
        )


def bias_start(options: dict[str, Any], initializer: Any) -> Start | None:
    """The shape and initializer of the bias, if there is one."""
    return None if options["no_bias"] else ((options["num_filter"],), initializer)
