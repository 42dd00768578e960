"""The depthwise convolution: `keras.layers.DepthwiseConv2D`, over-parameterized (DO-DConv)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from do_conv.core import rules
from do_conv.core.rules import CompositionName, DepthwiseInit
from do_conv.core.spec import Spec
from do_conv.tf.base import OverParameterized
from do_conv.tf.composed import LayerOptions, known_data_format, lower

if TYPE_CHECKING:
    from typing_extensions import Unpack


@keras.saving.register_keras_serializable("do_conv")
class DODepthwiseConv2D(OverParameterized, keras.layers.DepthwiseConv2D):
    """An over-parameterized `keras.layers.DepthwiseConv2D`: its arguments, and ours by keyword."""

    _plain = keras.layers.DepthwiseConv2D

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        strides: int | tuple[int, int] = (1, 1),
        padding: str = "valid",
        depth_multiplier: int = 1,
        data_format: str | None = None,
        dilation_rate: int | tuple[int, int] = (1, 1),
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        depthwise_constraint: Any = None,
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
            kernel_size: K, an integer or two.
            strides: an integer or two.
            padding: "valid" or "same".
            depth_multiplier: output channels of each input channel: C_out is this times C_in.
            data_format: "channels_last" or "channels_first"; None is Keras's setting.
            dilation_rate: an integer or two; not together with strides.
            activation: as the plain layer's.
            use_bias: whether to add a bias.
            depthwise_initializer: how W, the plain layer's depthwise kernel, starts.
            bias_initializer: how the bias starts.
            depthwise_regularizer: a penalty on W.
            bias_regularizer: a penalty on the bias.
            activity_regularizer: a penalty on the output.
            depthwise_constraint: a projection of W.
            bias_constraint: a projection of the bias.
            d_mul: D_mul, at least |K|, the default; it is not Keras's `depth_multiplier`.
            depthwise_init: how D starts (Table 7), "identity" or "he".
            composition: "kernel" or "feature" (equation 4); it may be changed at any time.
            delta_regularizer: a penalty on D', which pulls D to the identity.
            delta_constraint: a projection of D'.
            kwargs: what every Keras layer takes, such as `name` and `dtype`.

        Raises:
            DOConvError: if an argument breaks a rule; the message names it.
        """
        rules.own_names(kwargs)
        super().__init__(
            kernel_size=rules.axes("kernel_size", kernel_size, 2),
            strides=rules.axes("strides", strides, 2),
            padding=rules.choice("padding", lower(padding), ("valid", "same")),
            depth_multiplier=rules.integer("depth_multiplier", depth_multiplier),
            data_format=known_data_format(data_format),
            dilation_rate=rules.axes("dilation_rate", dilation_rate, 2),
            activation=activation,
            use_bias=use_bias,
            depthwise_initializer=depthwise_initializer,
            bias_initializer=bias_initializer,
            depthwise_regularizer=depthwise_regularizer,
            bias_regularizer=bias_regularizer,
            activity_regularizer=activity_regularizer,
            depthwise_constraint=depthwise_constraint,
            bias_constraint=bias_constraint,
            **kwargs,
        )
        self._set_options(d_mul, depthwise_init, composition, delta_regularizer, delta_constraint)

    def _spec_for(self, in_channels: int) -> Spec:
        channels = in_channels * self.depth_multiplier
        return Spec(in_channels, channels, self.kernel_size, in_channels, self.d_mul)

    def composed_kernel(self) -> Any:
        """W', `(*K, C_in, depth_multiplier)`, differentiable in W and D'."""
        return self._in_plain_shape(super().composed_kernel())

    def _in_plain_shape(self, kernel: Any) -> Any:
        shape = (*self.kernel_size, self.spec.in_channels, self.depth_multiplier)
        return ops.reshape(kernel, shape)

    def _convolve_plain(self, inputs: Any, kernel: Any, window: dict[str, Any]) -> Any:
        return ops.depthwise_conv(inputs, self._in_plain_shape(kernel), **window)

    def _convolve_depthwise(self, inputs: Any, kernel: Any, window: dict[str, Any]) -> Any:
        # The plain layer's operation, which takes a stride together with a dilation.
        return ops.depthwise_conv(inputs, kernel, **window)
