"""Depthwise separable convolutions: trained by kernel composition, deployed as the two they are.

Section 3 of the paper proposes it. No nonlinearity and no normalisation stands between the two, as
in Keras's `SeparableConv2D` and in Xception; MobileNet's blocks have both, and do not compose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import keras
from keras import ops

from do_conv.core import rules
from do_conv.core.rules import CompositionName
from do_conv.core.spec import SeparableSpec, Spec
from do_conv.tf.composed import Composed, LayerOptions, known_data_format, lower
from do_conv.tf.composition import compose_spec

if TYPE_CHECKING:
    from typing_extensions import Unpack


class _DepthwiseSeparable(Composed):
    """The separable layers of every rank.

    Attributes:
        depthwise_kernel: D, `(*K, C_in, depth_multiplier)`, as the plain layer's.
        pointwise_kernel: W, `(1, ..., C_in * depth_multiplier, filters)`, as the plain layer's.
        bias: as the plain layer's.
    """

    _rank: ClassVar[int]

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, ...],
        strides: int | tuple[int, ...] = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: int | tuple[int, ...] = 1,
        depth_multiplier: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        pointwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        pointwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        depthwise_constraint: Any = None,
        pointwise_constraint: Any = None,
        bias_constraint: Any = None,
        *,
        composition: CompositionName = "kernel",
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        """Make the layer; the arguments before `composition` are the plain layer's, in its order.

        Args:
            filters: C_out.
            kernel_size: K of the depthwise convolution, an integer or one per spatial axis.
            strides: an integer or one per axis.
            padding: "valid" or "same".
            data_format: "channels_last" or "channels_first"; None is Keras's setting.
            dilation_rate: an integer or one per axis.
            depth_multiplier: D_mul, the depthwise convolution's outputs for each input channel.
            activation: as the plain layer's.
            use_bias: whether to add a bias.
            depthwise_initializer: how D starts.
            pointwise_initializer: how W starts.
            bias_initializer: how the bias starts.
            depthwise_regularizer: a penalty on D.
            pointwise_regularizer: a penalty on W.
            bias_regularizer: a penalty on the bias.
            activity_regularizer: a penalty on the output.
            depthwise_constraint: a projection of D.
            pointwise_constraint: a projection of W.
            bias_constraint: a projection of the bias.
            composition: "kernel" composes one kernel and convolves once; "feature" convolves twice,
                as the plain layer does. Both give the same output; the attribute may be changed at
                any time, but a function that was traced before keeps the old one.
            kwargs: what every Keras layer takes, such as `name` and `dtype`.

        Raises:
            DOConvError: if an argument breaks a rule; the message names it.
        """
        rank = self._rank
        super().__init__(
            filters=rules.integer("filters", filters),
            kernel_size=rules.axes("kernel_size", kernel_size, rank),
            strides=rules.axes("strides", strides, rank),
            padding=rules.choice("padding", lower(padding), ("valid", "same")),
            data_format=known_data_format(data_format),
            dilation_rate=rules.axes("dilation_rate", dilation_rate, rank),
            depth_multiplier=rules.integer("depth_multiplier", depth_multiplier),
            activation=activation,
            use_bias=use_bias,
            depthwise_initializer=depthwise_initializer,
            pointwise_initializer=pointwise_initializer,
            bias_initializer=bias_initializer,
            depthwise_regularizer=depthwise_regularizer,
            pointwise_regularizer=pointwise_regularizer,
            bias_regularizer=bias_regularizer,
            activity_regularizer=activity_regularizer,
            depthwise_constraint=depthwise_constraint,
            pointwise_constraint=pointwise_constraint,
            bias_constraint=bias_constraint,
            **kwargs,
        )
        self._set_composition(composition)

    def _spec_for(self, in_channels: int) -> Spec:
        sizes = in_channels, self.filters, self.kernel_size
        return SeparableSpec(*sizes, d_mul=self.depth_multiplier)

    def add_weight(self, *args: Any, name: str | None = None, **kwargs: Any) -> Any:
        """Make a variable; the kernels are composed in their own precision."""
        if name in ("depthwise_kernel", "pointwise_kernel"):
            kwargs["autocast"] = False
        return super().add_weight(*args, name=name, **kwargs)

    def composed_kernel(self) -> Any:
        """W', the kernel that is applied, `(*K, C_in, filters)`, differentiable in W and D."""
        rules.built(self.name, self.built)
        spec = self.spec
        by_channel = (spec.in_channels, spec.d_mul, spec.out_channels)
        slots = ops.transpose(ops.reshape(self.pointwise_kernel, by_channel), (1, 0, 2))
        return compose_spec(slots, ops.convert_to_tensor(self.depthwise_kernel), spec)

    def _convolve(self, inputs: Any) -> Any:
        if self._chosen_composition() == "kernel":
            kernel = ops.cast(self.composed_kernel(), self.compute_dtype)
            return ops.conv(inputs, kernel, **self._window())
        depthwise = ops.cast(self.depthwise_kernel, self.compute_dtype)
        pointwise = ops.cast(self.pointwise_kernel, self.compute_dtype)
        return ops.separable_conv(inputs, depthwise, pointwise, **self._window())

    def _plain_kernels(self) -> dict[str, Any]:
        """The plain layer's two: it is deployed by feature composition."""
        return {name: getattr(self, name) for name in ("depthwise_kernel", "pointwise_kernel")}

    def __repr__(self) -> str:
        """What the plain layer shows, and the composition if it is not the default."""
        shown = Spec(None, 1, self.kernel_size).differences("identity", self.composition)
        return super().__repr__()[:-1] + shown + ">"


@keras.saving.register_keras_serializable("do_conv")
class DepthwiseSeparableConv1D(_DepthwiseSeparable, keras.layers.SeparableConv1D):
    """A `keras.layers.SeparableConv1D` that is trained by kernel composition."""

    _plain, _rank = keras.layers.SeparableConv1D, 1


@keras.saving.register_keras_serializable("do_conv")
class DepthwiseSeparableConv2D(_DepthwiseSeparable, keras.layers.SeparableConv2D):
    """A `keras.layers.SeparableConv2D` that is trained by kernel composition."""

    _plain, _rank = keras.layers.SeparableConv2D, 2
