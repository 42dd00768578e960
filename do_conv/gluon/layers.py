"""The layers: a Gluon convolution that trains W and D', and convolves with the kernel of both."""

from __future__ import annotations

from typing import Any, ClassVar

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock, nn

from do_conv.core import rules
from do_conv.core.spec import Spec
from do_conv.gluon.arrays import as_given, legacy_arrays
from do_conv.gluon.composition import (
    compose_spec,
    convolve,
    depthwise_kernel,
    pointwise_kernel,
    with_shapes_from,
)
from do_conv.gluon.starts import DeltaStart


class _DOConv(HybridBlock):
    """A convolution over-parameterized by a depthwise kernel (Cao et al., arXiv 2006.12030).

    It takes the arguments of the layer it replaces, in their order, and is one of its kind.

    Attributes:
        weight: W, `(C_out, C_in/G, *K)`, or `(C_out, C_in/G, D_mul)` where D_mul is not |K|. It is
            not the kernel that is applied: that is `composed_weight()`.
        depthwise_delta: D' = D - I, `(C_in, D_mul, *K)`; None where |K| = 1.
        bias: `(C_out,)` or None.
    """

    _plain: ClassVar[Any]
    _layout: ClassVar[str]

    def __init__(
        self,
        channels: int,
        kernel_size: int | tuple[int, ...],
        strides: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        layout: str | None = None,
        activation: str | None = None,
        use_bias: bool = True,
        weight_initializer: Any = None,
        bias_initializer: Any = "zeros",
        in_channels: int = 0,
        *,
        d_mul: int | None = None,
        depthwise_init: str = "identity",
        composition: str = "kernel",
        **kwargs: Any,
    ) -> None:
        """Make the layer; the arguments before `d_mul` are the plain layer's, in its order.

        Args:
            channels: C_out.
            kernel_size: K, an integer or one per spatial axis.
            strides: an integer or one per axis.
            padding: an integer or one per axis.
            dilation: an integer or one per axis.
            groups: G; 1 is DO-Conv, C_in is DO-DConv, anything between is DO-GConv.
            layout: the order of the input's axes; MXNet convolves in 'NCW', 'NCHW', 'NCDHW'.
            activation: as the plain layer's.
            use_bias: whether to add a bias.
            weight_initializer: how W starts; None is what `initialize` says.
            bias_initializer: how the bias starts.
            in_channels: C_in; 0 is to be seen from the first input.
            d_mul: D_mul, at least |K|, the default. Where |K| = 1 the layer is the plain one.
            depthwise_init: how D starts (Table 7): "identity", with which the layer starts as the
                plain one, or "he", normal with standard deviation `sqrt(2/|K|)`.
            composition: "kernel" composes one kernel and convolves once; "feature" convolves twice
                (equation 3). Both give the same output; the attribute may be changed at any time,
                but a graph that was hybridized before is kept until `hybridize()` is called again.
            kwargs: what every block takes, `prefix` and `params`.

        Raises:
            DOConvError: if an argument breaks a rule; the message names it.
        """
        # Not by the plain layer's constructor: it asks shared `params` for a plain weight.
        HybridBlock.__init__(self, **kwargs)
        rank = len(self._layout) - 2
        size = rules.axes("kernel_size", kernel_size, rank)
        in_channels = rules.integer("in_channels", in_channels, minimum=0)
        channels = rules.integer("channels", channels)
        spec = Spec(in_channels or None, channels, size, groups, d_mul)
        self._spec, self._channels, self._in_channels = spec, spec.out_channels, in_channels
        self.depthwise_init = rules.depthwise_init(depthwise_init)
        self.composition = rules.composition(composition)
        self._op_name = "Convolution"
        self._kwargs = {
            "kernel": size,
            "stride": rules.axes("strides", strides, rank),
            "dilate": rules.axes("dilation", dilation, rank),
            "pad": rules.padding(padding, rank, words=()),
            "num_filter": spec.out_channels,
            "num_group": spec.groups,
            "no_bias": not use_bias,
            "layout": rules.choice(
                "layout", self._layout if layout is None else layout, (self._layout,)
            ),
        }
        start = DeltaStart(self.depthwise_init, size, spec.d_mul)
        with self.name_scope():
            self.weight = self._parameter("weight", spec.weight_shape, weight_initializer)
            self.bias = (
                self._parameter("bias", (spec.out_channels,), bias_initializer)
                if use_bias
                else None
            )
            self.depthwise_delta = (
                self._parameter("depthwise_delta", spec.delta_shape, start)
                if spec.has_delta
                else None
            )
            self.act = nn.Activation(activation, prefix=f"{activation}_") if activation else None

    def _parameter(self, name: str, shape: tuple[Any, ...], init: Any) -> Any:
        """A parameter, perhaps a shared one; 0 stands for a size that is not known yet."""
        known = tuple(size or 0 for size in shape)
        return self.params.get(name, shape=known, init=init, allow_deferred_init=True)

    @property
    def spec(self) -> Spec:
        """The layer's sizes; its input channels are None until an input has been seen."""
        if self._spec.in_channels is None and self.weight.shape[1] > 0:
            spec = self._spec.with_in_channels(self.weight.shape[1] * self._spec.groups)
            if self.depthwise_delta is not None:
                # Parameters that were loaded fit each other only if they had these groups.
                name, found = self.depthwise_delta.name, self.depthwise_delta.shape
                if found[0] > 0:
                    rules.stored_shape(name, spec.delta_shape, found)
                self.depthwise_delta.shape = spec.delta_shape
            self._spec = spec
        return self._spec

    def infer_shape(self, x: Any, *args: Any) -> None:
        """Take the parameters' shapes from an input, without a graph."""
        spec = self._spec.with_in_channels(x.shape[1])
        self.weight.shape = spec.weight_shape
        if self.depthwise_delta is not None:
            self.depthwise_delta.shape = spec.delta_shape

    def forward(self, x: Any, *args: Any) -> Any:
        """Convolve `x`, `(N, C_in, *size)`, in the chosen composition.

        Raises:
            DOConvError: if the input's rank, channels or dtype are not the layer's.
        """
        if isinstance(x, mx.nd.NDArray):
            self._check_input(x)
        return super().forward(x, *args)

    def _check_input(self, x: Any) -> None:
        rules.input_rank(x.shape, self._spec.rank)
        if self.spec.in_channels is None:
            # Before a graph is made of this layer alone: it then knows its sizes.
            self.infer_shape(x)
        rules.input_shape(x.shape, self._spec.rank, self.spec.in_channels)
        rules.input_dtype(np.dtype(x.dtype).name, np.dtype(self.weight.dtype).name)

    def hybrid_forward(
        self,
        F: Any,  # noqa: N803
        x: Any,
        weight: Any,
        bias: Any = None,
        depthwise_delta: Any = None,
    ) -> Any:
        """The forward pass on NDArrays or Symbols."""
        x, weight, bias, depthwise_delta = legacy_arrays(x, weight, bias, depthwise_delta)
        composition, spec = rules.composition(self.composition), self.spec
        if composition == "feature" and depthwise_delta is not None:
            out = self._convolve_features(F, x, weight, bias, depthwise_delta)
        else:
            if depthwise_delta is not None:
                if spec.in_channels is None:
                    weight, depthwise_delta = with_shapes_from(F, x, weight, depthwise_delta, spec)
                weight = compose_spec(F, weight, depthwise_delta, spec)
            out = convolve(F, x, weight, bias, self._kwargs)
        out = as_given(out)
        return out if self.act is None else self.act(out)

    def _convolve_features(self, F: Any, x: Any, weight: Any, bias: Any, delta: Any) -> Any:  # noqa: N803
        """Feature composition: stride, padding and dilation belong to the depthwise convolution."""
        spec = self.spec
        in_channels = rules.feature_channels(spec.in_channels)
        features = {"num_filter": in_channels * spec.d_mul, "num_group": in_channels}
        depthwise = {**self._kwargs, **features, "no_bias": True}
        pointwise = {
            "kernel": (1,) * spec.rank,
            "num_filter": spec.out_channels,
            "num_group": spec.groups,
            "no_bias": bias is None,
        }
        kernel = depthwise_kernel(F, delta, spec, self.weight.dtype)
        out = convolve(F, x, kernel, None, depthwise)
        return convolve(F, out, pointwise_kernel(F, weight, spec), bias, pointwise)

    def composed_weight(self, ctx: Any = None) -> Any:
        """W', the kernel that is applied, `(C_out, C_in/G, *K)`, differentiable in W and D'.

        Args:
            ctx: the context, if the parameters are in several.
        """
        rules.built(self.name, self._is_initialized())
        weight = self.weight.data(ctx)
        if self.depthwise_delta is None:
            return weight
        weight, delta = legacy_arrays(weight, self.depthwise_delta.data(ctx))
        return as_given(compose_spec(mx.nd, weight, delta, self.spec))

    def fold(self, *, check_finite: bool = True) -> Any:
        """The plain layer that does the same.

        Args:
            check_finite: False folds parameters that hold NaN or infinity, too.

        Returns:
            a new `nn.Conv` of this rank with the same names, dtype and contexts, and W' as weight.

        Raises:
            DOConvError: if the parameters are not there yet, or W' or the bias is not finite.
        """
        rules.built(self.name, self._is_initialized())
        options, spec = self._kwargs, self.spec
        plain = self._plain(
            spec.out_channels,
            spec.kernel_size,
            options["stride"],
            options["pad"],
            options["dilate"],
            spec.groups,
            options["layout"],
            None if self.act is None else self.act._act_type,
            self.bias is not None,
            in_channels=spec.in_channels,
            prefix=self.prefix,
        )
        plain.cast(self.weight.dtype)
        plain.initialize(mx.init.Zero(), ctx=self.weight.list_ctx())
        # MXNet lays a weight out anew while a convolution reads it: let those that run end first.
        mx.nd.waitall()
        values = {"weight": self.composed_weight(self.weight.list_ctx()[0])}
        if self.bias is not None:
            values["bias"] = self.bias.data(self.bias.list_ctx()[0])
        for name, value in values.items():
            if check_finite:
                rules.finite(name, bool(np.isfinite(value.asnumpy()).all()))
            parameter = getattr(plain, name)
            parameter.set_data(value)
            parameter.grad_req = getattr(self, name).grad_req
        return plain

    def _is_initialized(self) -> bool:
        return all(parameter._data is not None for parameter in self._reg_params.values())

    def __repr__(self) -> str:
        """What the plain layer shows, and what differs from the defaults."""
        return super().__repr__()[:-1] + (
            self.spec.differences(self.depthwise_init, self.composition) + ")"
        )


class DOConv1D(_DOConv, nn.Conv1D):
    """An over-parameterized `nn.Conv1D`: its arguments, and ours by keyword."""

    _plain, _layout = nn.Conv1D, "NCW"


class DOConv2D(_DOConv, nn.Conv2D):
    """An over-parameterized `nn.Conv2D`: its arguments, and ours by keyword."""

    _plain, _layout = nn.Conv2D, "NCHW"


class DOConv3D(_DOConv, nn.Conv3D):
    """An over-parameterized `nn.Conv3D`: its arguments, and ours by keyword."""

    _plain, _layout = nn.Conv3D, "NCDHW"
