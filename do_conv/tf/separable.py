"""Depthwise separable convolutions: trained by kernel composition, deployed as the two they are.

Section 3 of the paper proposes it. No nonlinearity and no normalisation stands between the two, as
in Keras's `SeparableConv2D` and in Xception; MobileNet's blocks have both, and do not compose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from do_conv.core import rules
from do_conv.core.rules import CompositionName
from do_conv.core.spec import SeparableSpec
from do_conv.tf.composed import Composed
from do_conv.tf.plain import LayerOptions, known_data_format, lower

if TYPE_CHECKING:
    from typing_extensions import Unpack


class _DepthwiseSeparable(Composed):
    """The separable layers of every rank.

    Attributes:
        depthwise_kernel: D, `(*K, C_in, depth_multiplier)`, as the plain layer's.
        pointwise_kernel: W, `(1, ..., C_in * depth_multiplier, filters)`, as the plain layer's.
        bias: as the plain layer's.
    """

    _plain_kernel_names = ("depthwise_kernel", "pointwise_kernel")  # deployed as a pair
    _kernel_name = "pointwise_kernel"
    _delta_name = "depthwise_kernel"

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
        """The arguments before `composition` are those of `SeparableConv2D`.

        Args:
            depth_multiplier: D_mul, the depthwise convolution's outputs for each input channel.
            depthwise_initializer, depthwise_regularizer, depthwise_constraint: those of D.
            pointwise_initializer, pointwise_regularizer, pointwise_constraint: those of W.
            composition: "kernel" composes one kernel and convolves once; "feature" convolves twice,
                as the plain layer does. Both give the same output; the attribute may be changed at
                any time, but a function that was traced before keeps the old one.
            kwargs: the keywords of every Keras layer, such as `name` and `dtype`.

        Raises:
            DOConvError: if an argument breaks a rule; the message names it.
        """
        spec = SeparableSpec(
            None,
            rules.integer("filters", filters),
            rules.axes("kernel_size", kernel_size, self._rank),
            d_mul=rules.integer("depth_multiplier", depth_multiplier),
        )
        super().__init__(
            spec,
            composition,
            filters=spec.out_channels,
            kernel_size=spec.kernel_size,
            strides=rules.axes("strides", strides, spec.rank),
            padding=rules.choice("padding", lower(padding), ("valid", "same")),
            data_format=known_data_format(data_format),
            dilation_rate=rules.axes("dilation_rate", dilation_rate, spec.rank),
            depth_multiplier=spec.d_mul,
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

    def add_weight(self, *args: Any, name: str | None = None, **kwargs: Any) -> Any:
        """Make a variable; the kernels are composed in their own precision."""
        if name in self._plain_kernel_names:
            kwargs["autocast"] = False
        return super().add_weight(*args, name=name, **kwargs)

    def _compose(self, kernel: Any) -> Any:
        spec = self.spec
        by_channel = (spec.in_channels, spec.d_mul, spec.out_channels)
        return super()._compose(ops.transpose(ops.reshape(kernel, by_channel), (1, 0, 2)))

    def _convolve_features(self, inputs: Any, kernel: Any) -> Any:
        """Feature composition, by the plain layer's own operation."""
        depthwise = ops.cast(self.depthwise_kernel, self.compute_dtype)
        pointwise = ops.cast(kernel, self.compute_dtype)
        return ops.separable_conv(inputs, depthwise, pointwise, **self._window())

    def __repr__(self) -> str:
        """The plain layer's, and the composition if it is not the default."""
        shown = "" if self.composition == "kernel" else f", composition={self.composition!r}"
        return super().__repr__()[:-1] + shown + ">"


@keras.saving.register_keras_serializable("do_conv")
class DepthwiseSeparableConv1D(_DepthwiseSeparable, keras.layers.SeparableConv1D):
    """A `keras.layers.SeparableConv1D` that is trained by kernel composition.

    Shapes: input `(N, L, C_in)`, output `(N, L', filters)` (channels last); `pointwise_kernel`
    (W) `(1, ..., D_mul * C_in, filters)`, `depthwise_kernel` (D) `(*K, C_in, D_mul)`, `bias`
    `(filters,)`.

    Examples:
        >>> import keras
        >>> from do_conv.tf import DepthwiseSeparableConv1D
        >>> layer = DepthwiseSeparableConv1D(16, 3, padding="same")
        >>> tuple(layer(keras.ops.ones((1, 8, 3))).shape)
        (1, 8, 16)
        >>> type(layer.fold()).__name__
        'SeparableConv1D'
    """

    _plain, _rank = keras.layers.SeparableConv1D, 1


@keras.saving.register_keras_serializable("do_conv")
class DepthwiseSeparableConv2D(_DepthwiseSeparable, keras.layers.SeparableConv2D):
    """A `keras.layers.SeparableConv2D` that is trained by kernel composition.

    Shapes: input `(N, H, W, C_in)`, output `(N, H', W', filters)` (channels last);
    `pointwise_kernel` (W) `(1, ..., D_mul * C_in, filters)`, `depthwise_kernel` (D)
    `(*K, C_in, D_mul)`, `bias` `(filters,)`.

    Examples:
        >>> import keras
        >>> from do_conv.tf import DepthwiseSeparableConv2D
        >>> layer = DepthwiseSeparableConv2D(16, 3, padding="same")
        >>> tuple(layer(keras.ops.ones((1, 8, 8, 3))).shape)
        (1, 8, 8, 16)
        >>> type(layer.fold()).__name__
        'SeparableConv2D'
    """

    _plain, _rank = keras.layers.SeparableConv2D, 2
