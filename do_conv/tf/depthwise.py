"""The depthwise convolution: `keras.layers.DepthwiseConv2D`, over-parameterized (DO-DConv)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from do_conv.core import rules
from do_conv.core.rules import CompositionName, DepthwiseInit
from do_conv.core.spec import Spec
from do_conv.tf.base import OverParameterized
from do_conv.tf.plain import LayerOptions, known_data_format, lower

if TYPE_CHECKING:
    from typing_extensions import Unpack


class OverDepthwise(OverParameterized):
    """A layer whose W is a depthwise kernel: one group for each input channel (DO-DConv)."""

    def _spec_for(self, in_channels: int) -> Spec:
        channels = in_channels * self.depth_multiplier
        return replace(
            self.spec, in_channels=in_channels, out_channels=channels, groups=in_channels
        )

    def _compose(self, kernel: Any) -> Any:
        shape = (*self.kernel_size, self.spec.in_channels, self.depth_multiplier)
        return ops.reshape(super()._compose(kernel), shape)

    def _convolve(self, inputs: Any, kernel: Any) -> Any:
        return ops.depthwise_conv(inputs, kernel, **self._window())

    def _convolve_depthwise(self, inputs: Any, kernel: Any) -> Any:
        # The plain layer's operation, which takes a stride together with a dilation.
        return ops.depthwise_conv(inputs, kernel, **self._window())


@keras.saving.register_keras_serializable("do_conv")
class DODepthwiseConv2D(OverDepthwise, keras.layers.DepthwiseConv2D):
    """An over-parameterized `keras.layers.DepthwiseConv2D`: its arguments, and ours by keyword.

    Shapes: input `(N, H, W, C_in)`, output `(N, H', W', depth_multiplier * C_in)` (channels
    last); `kernel` (W) `(*K, C_in, depth_multiplier)`, `depthwise_delta` (D')
    `(*K, C_in, D_mul)`, `bias` `(depth_multiplier * C_in,)`.

    Examples:
        >>> import keras
        >>> from do_conv.tf import DODepthwiseConv2D
        >>> layer = DODepthwiseConv2D(3, padding="same")
        >>> tuple(layer(keras.ops.ones((1, 8, 8, 3))).shape)
        (1, 8, 8, 3)
        >>> type(layer.fold()).__name__
        'DepthwiseConv2D'
    """

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
        """The arguments before `d_mul` are those of `DepthwiseConv2D`.

        Args:
            depth_multiplier: output channels of each input channel: C_out is this times C_in.
            depthwise_initializer, depthwise_regularizer, depthwise_constraint: those of W, the
                plain layer's depthwise kernel.
            d_mul: D_mul, at least |K|, the default; it is not Keras's `depth_multiplier`.
            depthwise_init: how D starts (Table 7), "identity" or "he".
            composition: "kernel" or "feature" (equation 4); it may be changed at any time.
            delta_regularizer: a penalty on D', which pulls D to the identity.
            delta_constraint: a projection of D'.
            kwargs: the keywords of every Keras layer, such as `name` and `dtype`.

        Raises:
            DOConvError: if an argument breaks a rule; the message names it.
        """
        rules.own_names(kwargs)
        spec = Spec(None, None, rules.axes("kernel_size", kernel_size, 2), d_mul=d_mul)
        super().__init__(
            spec,
            composition,
            depthwise_init,
            delta_regularizer,
            delta_constraint,
            kernel_size=spec.kernel_size,
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
