"""Depthwise separable convolutions whose depthwise kernel is over-parameterized (DO-DConv).

`keras.layers.SeparableConv2D` with a D' on its depthwise part, as `DODepthwiseConv2D` has one. It
starts as the plain layer to the last bit. `DepthwiseSeparableConv2D` is the other way to train such
a pair: one kernel composed of the two, and no variable more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from do_conv.core import rules
from do_conv.core.rules import CompositionName, DepthwiseInit
from do_conv.core.spec import Spec
from do_conv.tf.depthwise import OverDepthwise
from do_conv.tf.plain import LayerOptions, known_data_format, lower

if TYPE_CHECKING:
    from typing_extensions import Unpack


class _DOSeparable(OverDepthwise):
    """The separable layers of every rank.

    Attributes:
        depthwise_kernel: W of the depthwise part, `(*K, C_in, depth_multiplier)`, or
            `(D_mul, C_in, depth_multiplier)` where D_mul is not |K|.
        depthwise_delta: D', `(*K, C_in, D_mul)`; None where |K| = 1.
        pointwise_kernel: `(1, ..., C_in * depth_multiplier, filters)`, as the plain layer's.
        bias: as the plain layer's.
    """

    _plain_kernel_names = ("depthwise_kernel", "pointwise_kernel")
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
        """The arguments before `d_mul` are those of `SeparableConv2D`.

        Args:
            depth_multiplier: outputs of the depthwise convolution for each input channel.
            depthwise_initializer, depthwise_regularizer, depthwise_constraint: those of the
                depthwise part's W.
            d_mul: D_mul, at least |K|, the default; it is not Keras's `depth_multiplier`.
            depthwise_init: how D starts (Table 7), "identity" or "he".
            composition: "kernel" or "feature" (equation 4), of the depthwise part; it may be
                changed at any time.
            delta_regularizer: a penalty on D', which pulls D to the identity.
            delta_constraint: a projection of D'.
            kwargs: the keywords of every Keras layer, such as `name` and `dtype`.

        Raises:
            DOConvError: if an argument breaks a rule; the message names it.
        """
        rules.own_names(kwargs)
        rank = self._rank
        spec = Spec(None, None, rules.axes("kernel_size", kernel_size, rank), d_mul=d_mul)
        super().__init__(
            spec,
            composition,
            depthwise_init,
            delta_regularizer,
            delta_constraint,
            filters=rules.integer("filters", filters),
            kernel_size=spec.kernel_size,
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

    def _convolve(self, inputs: Any, kernel: Any) -> Any:
        pointwise = ops.cast(self.pointwise_kernel, self.compute_dtype)
        return ops.separable_conv(inputs, kernel, pointwise, **self._window())

    def _convolve_features(self, inputs: Any, kernel: Any) -> Any:
        """Feature composition of the depthwise part, then the plain layer's pointwise part."""
        features = super()._convolve_features(inputs, kernel)
        pointwise = ops.cast(self.pointwise_kernel, self.compute_dtype)
        return ops.conv(features, pointwise, data_format=self.data_format)


@keras.saving.register_keras_serializable("do_conv")
class DOSeparableConv1D(_DOSeparable, keras.layers.SeparableConv1D):
    """A `keras.layers.SeparableConv1D` whose depthwise kernel is over-parameterized.

    Shapes: input `(N, L, C_in)`, output `(N, L', filters)` (channels last); `depthwise_kernel`
    (W) `(*K, C_in, depth_multiplier)`, `depthwise_delta` (D') `(*K, C_in, D_mul)`,
    `pointwise_kernel` `(1, ..., depth_multiplier * C_in, filters)`, `bias` `(filters,)`.

    Examples:
        >>> import keras
        >>> from do_conv.tf import DOSeparableConv1D
        >>> layer = DOSeparableConv1D(16, 3, padding="same")
        >>> tuple(layer(keras.ops.ones((1, 8, 3))).shape)
        (1, 8, 16)
        >>> type(layer.fold()).__name__
        'SeparableConv1D'
    """

    _plain, _rank = keras.layers.SeparableConv1D, 1


@keras.saving.register_keras_serializable("do_conv")
class DOSeparableConv2D(_DOSeparable, keras.layers.SeparableConv2D):
    """A `keras.layers.SeparableConv2D` whose depthwise kernel is over-parameterized.

    Shapes: input `(N, H, W, C_in)`, output `(N, H', W', filters)` (channels last);
    `depthwise_kernel` (W) `(*K, C_in, depth_multiplier)`, `depthwise_delta` (D')
    `(*K, C_in, D_mul)`, `pointwise_kernel` `(1, ..., depth_multiplier * C_in, filters)`, `bias`
    `(filters,)`.

    Examples:
        >>> import keras
        >>> from do_conv.tf import DOSeparableConv2D
        >>> layer = DOSeparableConv2D(16, 3, padding="same")
        >>> tuple(layer(keras.ops.ones((1, 8, 8, 3))).shape)
        (1, 8, 8, 16)
        >>> type(layer.fold()).__name__
        'SeparableConv2D'
    """

    _plain, _rank = keras.layers.SeparableConv2D, 2
