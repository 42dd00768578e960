"""Depthwise separable convolutions: trained by kernel composition, deployed as the two they are.

Section 3 of the paper proposes it. No nonlinearity and no normalisation stands between the two, as
in Xception and in Keras's `SeparableConv2D`; MobileNet's blocks have both, and do not compose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import mxnet as mx
from mxnet.gluon import nn

from do_conv.core import rules
from do_conv.core.rules import CompositionName
from do_conv.core.spec import SeparableSpec
from do_conv.gluon.arrays import as_given, legacy_arrays
from do_conv.gluon.base import Composed
from do_conv.gluon.composition import depthwise_kernel, pointwise_kernel
from do_conv.gluon.plain import (
    BlockOptions,
    activation_name,
    carry_activation,
    deploy,
    first,
    operator_options,
    wait_for_parameters,
)
from do_conv.gluon.starts import ReshapedStart
from do_conv.models import checks

if TYPE_CHECKING:
    from typing_extensions import Unpack


LayerT = TypeVar("LayerT", bound="_DepthwiseSeparable")


class _DepthwiseSeparable(Composed):
    """The separable layers of every rank.

    Attributes:
        weight: W, the pointwise kernel, `(C_out, C_in/G, D_mul)`.
        depthwise_weight: D, the depthwise kernel, `(C_in, D_mul, *K)`.
        bias: `(C_out,)` or None.
    """

    _delta_name = "depthwise_weight"

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
        d_mul: int = 1,
        depthwise_initializer: Any = None,
        composition: CompositionName = "kernel",
        **kwargs: Unpack[BlockOptions],
    ) -> None:
        """The arguments before `d_mul` are those of `nn.Conv1D`, `2D` or `3D`.

        Args:
            strides, padding, dilation: of the depthwise convolution.
            groups: G, those of the pointwise convolution.
            layout: the order of the input's axes; MXNet convolves in 'NCW', 'NCHW', 'NCDHW'.
            activation: what follows the pointwise convolution.
            use_bias: whether the pointwise convolution adds a bias.
            weight_initializer: how W starts; None is what `initialize` says. Whatever draws W and
                D draws them in the shapes of the two plain layers' kernels.
            in_channels: C_in; 0 is to be seen from the first input.
            d_mul: D_mul, the depthwise convolution's outputs for each input channel.
            depthwise_initializer: how D starts; None is what `initialize` says.
            composition: "kernel" composes one kernel and convolves once; "feature" convolves twice
                (equation 3). Both give the same output; the attribute may be changed at any time,
                but a graph that was hybridized before is kept until `hybridize()` is called again.
            kwargs: the keywords of every block, `prefix` and `params`.

        Raises:
            DOConvError: if an argument breaks a rule; the message names it.
        """
        rules.own_names(kwargs)
        in_channels = rules.integer("in_channels", in_channels, minimum=0)
        spec = SeparableSpec(
            in_channels or None,
            rules.integer("channels", channels),
            rules.axes("kernel_size", kernel_size, self._rank),
            groups,
            d_mul,
        )
        options = operator_options(spec, strides, padding, dilation, layout, use_bias)
        # The two plain layers' kernels, whose channels may be unknown.
        pointwise = ReshapedStart((spec.out_channels, -1, *[1] * spec.rank), weight_initializer)
        depthwise = ReshapedStart((-1, 1, *spec.kernel_size), depthwise_initializer)
        initializers = {
            "depthwise_weight": depthwise,
            "weight": pointwise,
            "bias": bias_initializer,
        }
        super().__init__(spec, composition, options, initializers, activation, kwargs)

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
            depthwise: an `nn.Conv` with a group for each input channel, no bias and no activation.
            pointwise: the `nn.Conv` that follows it, of one position, with stride 1 and no padding.
            composition: as for a new layer.

        Returns:
            a new layer with the dtype and contexts of the two, and the pointwise one's activation.

        Raises:
            DOConvError: if the two are not a separable pair, or have no parameters yet.
        """
        checks.separable_pair(cls._is_pair(depthwise, pointwise), depthwise, pointwise)
        wait_for_parameters(depthwise, pointwise)
        window, act = depthwise._kwargs, pointwise.act
        in_channels = window["num_group"]
        layer = cls(
            pointwise._channels,
            window["kernel"],
            window["stride"],
            window["pad"],
            window["dilate"],
            pointwise._kwargs["num_group"],
            window["layout"],
            activation_name(act),
            pointwise.bias is not None,
            in_channels=in_channels,
            d_mul=depthwise._channels // in_channels,
            composition=composition,
        )
        deploy(
            layer,
            weight=(_reshaped(pointwise.weight, layer.spec.weight_shape), pointwise.weight),
            depthwise_weight=(
                _reshaped(depthwise.weight, layer.spec.delta_shape), depthwise.weight,
            ),
            bias=(first(pointwise.bias), pointwise.bias),
        )  # fmt: skip
        carry_activation(act, layer)
        return layer

    @classmethod
    def _is_pair(cls, depthwise: Any, pointwise: Any) -> bool:
        """Whether the two layers are a depthwise and a pointwise convolution, in this order."""
        for layer in (depthwise, pointwise):
            if not isinstance(layer, cls._plain) or isinstance(layer, Composed):
                return False
        options, ones = pointwise._kwargs, (1,) * cls._rank
        return (
            depthwise.weight.shape[1] in (0, 1)
            and depthwise.bias is None
            and depthwise.act is None
            and pointwise.weight.shape[1] * options["num_group"] in (0, depthwise._channels)
            and tuple(options["kernel"]) == tuple(options["stride"]) == ones
            and not any(options["pad"])
        )

    def fold(self, *, check_finite: bool = True) -> nn.HybridSequential:
        """Make the two plain layers that do the same, at the cost of feature composition.

        Args:
            check_finite: False folds parameters that hold NaN or infinity, too.

        Returns:
            a new `nn.HybridSequential` of two, the depthwise and the pointwise convolution, with
            the same prefix, dtype and contexts; the activation is the second one's.

        Raises:
            DOConvError: if the parameters are not there yet, W, D or the bias is not finite, or the
                layer is of a subclass with a forward pass of its own.
        """
        wait_for_parameters(self)
        self.check_forward()
        arguments, spec = self._plain_arguments(), self.spec
        features = spec.in_channels * spec.d_mul
        as_depthwise = {"groups": spec.in_channels, "activation": None, "use_bias": False}
        as_pointwise = {"kernel_size": 1, "strides": 1, "padding": 0, "dilation": 1}
        pair = nn.HybridSequential(prefix=self.prefix)
        with pair.name_scope():
            depthwise = self._plain(
                **{**arguments, **as_depthwise, "channels": features}, prefix="depthwise_"
            )
            pointwise = self._plain(
                **{**arguments, **as_pointwise, "in_channels": features}, prefix="pointwise_"
            )
            # Named attributes, as in the other frameworks; `add` would number them.
            pair.register_child(depthwise, "depthwise")
            pair.register_child(pointwise, "pointwise")
        weight, delta = legacy_arrays(first(self.weight), first(self.depthwise_weight))
        kernel = depthwise_kernel(mx.nd, delta, spec, delta.dtype)
        deploy(depthwise, check_finite, weight=(as_given(kernel), self.depthwise_weight))
        deploy(
            pointwise,
            check_finite,
            weight=(as_given(pointwise_kernel(mx.nd, weight, spec)), self.weight),
            bias=(first(self.bias), self.bias),
        )
        carry_activation(self.act, pointwise)
        return pair

    def __repr__(self) -> str:
        """The plain layer's, D_mul and the composition."""
        return super().__repr__()[:-1] + self.spec.differences("identity", self.composition) + ")"


def _reshaped(parameter: Any, shape: tuple[int, ...]) -> Any:
    """The values of a plain kernel in the shape of W or of D."""
    (kernel,) = legacy_arrays(first(parameter))
    # The operator, not the method: a weight in oneDNN's layout has no view.
    return as_given(mx.nd.reshape(kernel, shape=shape))


class DepthwiseSeparableConv1D(_DepthwiseSeparable, nn.Conv1D):
    """A depthwise and a pointwise `nn.Conv1D`, trained as one.

    Shapes: input `(N, C_in, W)`, output `(N, channels, W')`; `weight` (W)
    `(channels, C_in/G, D_mul)`, `depthwise_weight` (D) `(C_in, D_mul, *K)`, `bias`
    `(channels,)`.

    Examples:
        >>> from do_conv.gluon import DepthwiseSeparableConv1D
        >>> import mxnet as mx
        >>> layer = DepthwiseSeparableConv1D(16, 3, padding=1, in_channels=3)
        >>> layer.initialize()
        >>> layer(mx.nd.ones((1, 3, 8))).shape
        (1, 16, 8)
        >>> [type(one).__name__ for one in layer.fold()]
        ['Conv1D', 'Conv1D']
    """

    _plain, _rank = nn.Conv1D, 1


class DepthwiseSeparableConv2D(_DepthwiseSeparable, nn.Conv2D):
    """A depthwise and a pointwise `nn.Conv2D`, trained as one.

    Shapes: input `(N, C_in, H, W)`, output `(N, channels, H', W')`; `weight` (W)
    `(channels, C_in/G, D_mul)`, `depthwise_weight` (D) `(C_in, D_mul, *K)`, `bias`
    `(channels,)`.

    Examples:
        >>> from do_conv.gluon import DepthwiseSeparableConv2D
        >>> import mxnet as mx
        >>> layer = DepthwiseSeparableConv2D(16, 3, padding=1, in_channels=3)
        >>> layer.initialize()
        >>> layer(mx.nd.ones((1, 3, 8, 8))).shape
        (1, 16, 8, 8)
        >>> [type(one).__name__ for one in layer.fold()]
        ['Conv2D', 'Conv2D']
    """

    _plain, _rank = nn.Conv2D, 2


class DepthwiseSeparableConv3D(_DepthwiseSeparable, nn.Conv3D):
    """A depthwise and a pointwise `nn.Conv3D`, trained as one.

    Shapes: input `(N, C_in, D, H, W)`, output `(N, channels, D', H', W')`; `weight` (W)
    `(channels, C_in/G, D_mul)`, `depthwise_weight` (D) `(C_in, D_mul, *K)`, `bias`
    `(channels,)`.

    Examples:
        >>> from do_conv.gluon import DepthwiseSeparableConv3D
        >>> import mxnet as mx
        >>> layer = DepthwiseSeparableConv3D(16, 3, padding=1, in_channels=3)
        >>> layer.initialize()
        >>> layer(mx.nd.ones((1, 3, 8, 8, 8))).shape
        (1, 16, 8, 8, 8)
        >>> [type(one).__name__ for one in layer.fold()]
        ['Conv3D', 'Conv3D']
    """

    _plain, _rank = nn.Conv3D, 3
