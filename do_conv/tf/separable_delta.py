"""Depthwise separable convolutions whose depthwise kernel is over-parameterized (DO-DConv).

`keras.layers.SeparableConv2D` with a D' on its depthwise part, as `DODepthwiseConv2D` has one. It
starts as the plain layer to the last bit. `DepthwiseSeparableConv2D` is the other way to train such
a pair: one kernel composed of the two, and no variable more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import keras
from keras import ops

from do_conv.core import rules
from do_conv.core.rules import CompositionName, DepthwiseInit
from do_conv.core.spec import Spec
from do_conv.tf.base import OverParameterized
from do_conv.tf.composed import LayerOptions, known_data_format, lower

if TYPE_CHECKING:
    from typing_extensions import Unpack


class _DOSeparable(OverParameterized):
    """The separable layers of every rank.

    Attributes:
        depthwise_kernel: W of the depthwise part, `(*K, C_in, depth_multiplier)`, or
            `(D_mul, C_in, depth_multiplier)` where D_mul is not |K|.
        depthwise_delta: D', `(*K, C_in, D_mul)`; None where |K| = 1.
        pointwise_kernel: `(1, ..., C_in * depth_multiplier, filters)`, as the plain layer's.
        bias: as the plain layer's.
    """

    _rank: ClassVar[int]
    _kernel_name = "depthwise_kernel"

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
        d_mul: int | None = None,
        depthwise_init: DepthwiseInit = "identity",
        composition: CompositionName = "kernel",
        delta_regularizer: Any = None,
        delta_constraint: Any = None,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        """Make the layer; the arguments before `d_mul` are the plain layer's, in its order.

        Args:
            filters: C_out.
            kernel_size: K of the depthwise convolution, an integer or one per spatial axis.
            strides: an integer or one per axis.
            padding: "valid" or "same".
            data_format: "channels_last" or "channels_first"; None is Keras's setting.
            dilation_rate: an integer or one per axis.
            depth_multiplier: outputs of the depthwise convolution for each input channel.
            activation: as the plain layer's.
            use_bias: whether to add a bias.
            depthwise_initializer: how the depthwise part's W starts.
            pointwise_initializer: how the pointwise kernel starts.
            bias_initializer: how the bias starts.
            depthwise_regularizer: a penalty on the depthwise part's W.
            pointwise_regularizer: a penalty on the pointwise kernel.
            bias_regularizer: a penalty on the bias.
            activity_regularizer: a penalty on the output.
            depthwise_constraint: a projection of the depthwise part's W.
            pointwise_constraint: a projection of the pointwise kernel.
            bias_constraint: a projection of the bias.
            d_mul: D_mul, at least |K|, the default; it is not Keras's `depth_multiplier`.
            depthwise_init: how D starts (Table 7), "identity" or "he".
            composition: "kernel" or "feature" (equation 4), of the depthwise part; it may be
                changed at any time.
            delta_regularizer: a penalty on D', which pulls D to the identity.
            delta_constraint: a projection of D'.
            kwargs: what every Keras layer takes, such as `name` and `dtype`.

        Raises:
            DOConvError: if an argument breaks a rule; the message names it.
        """
        rank = self._rank
        rules.own_names(kwargs)
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
        self._set_options(d_mul, depthwise_init, composition, delta_regularizer, delta_constraint)

    def _spec_for(self, in_channels: int) -> Spec:
        channels = in_channels * self.depth_multiplier
        return Spec(in_channels, channels, self.kernel_size, in_channels, self.d_mul)

    def composed_kernel(self) -> Any:
        """W' of the depthwise part, `(*K, C_in, depth_multiplier)`, differentiable in W and D'."""
        shape = (*self.kernel_size, self.spec.in_channels, self.depth_multiplier)
        return ops.reshape(super().composed_kernel(), shape)

    def _convolve(self, inputs: Any) -> Any:
        pointwise = ops.cast(self.pointwise_kernel, self.compute_dtype)
        if self._chosen_composition() == "kernel" or self.depthwise_delta is None:
            depthwise = ops.cast(self.composed_kernel(), self.compute_dtype)
            return ops.separable_conv(inputs, depthwise, pointwise, **self._window())
        delta = ops.convert_to_tensor(self.depthwise_delta)
        kernel = ops.convert_to_tensor(self.depthwise_kernel)
        features = self._convolve_features(inputs, kernel, delta, self._window())
        return ops.conv(features, pointwise, data_format=self.data_format)

    def _convolve_depthwise(self, inputs: Any, kernel: Any, window: dict[str, Any]) -> Any:
        # The plain layer's operation, which takes a stride together with a dilation.
        return ops.depthwise_conv(inputs, kernel, **window)

    def _plain_kernels(self) -> dict[str, Any]:
        return {
            "depthwise_kernel": self.composed_kernel(),
            "pointwise_kernel": self.pointwise_kernel,
        }

    def _stored(self) -> dict[str, Any]:
        names = ["depthwise_kernel", "pointwise_kernel", *["bias"] * self.use_bias]
        stored = {str(i): getattr(self, name) for i, name in enumerate(names)}
        if self.depthwise_delta is not None:
            stored["depthwise_delta"] = self.depthwise_delta
        return stored


@keras.saving.register_keras_serializable("do_conv")
class DOSeparableConv1D(_DOSeparable, keras.layers.SeparableConv1D):
    """A `keras.layers.SeparableConv1D` whose depthwise kernel is over-parameterized."""

    _plain, _rank = keras.layers.SeparableConv1D, 1


@keras.saving.register_keras_serializable("do_conv")
class DOSeparableConv2D(_DOSeparable, keras.layers.SeparableConv2D):
    """A `keras.layers.SeparableConv2D` whose depthwise kernel is over-parameterized."""

    _plain, _rank = keras.layers.SeparableConv2D, 2
