"""The transposed convolutions: `keras.layers.Conv1DTranspose` and so on, over-parameterized.

D belongs to the stored kernel's second last axis, the filters (see `do_conv.core.transposed`), and
composition is the same formula on that kernel. Feature
composition would need a grouped transposed convolution, which Keras does not have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import keras
from keras import ops

from do_conv.core import rules
from do_conv.core.rules import DepthwiseInit
from do_conv.core.spec import Spec
from do_conv.tf.base import OverParameterized
from do_conv.tf.plain import LayerOptions, known_data_format, lower

if TYPE_CHECKING:
    from typing_extensions import Unpack


class _DOConvTranspose(OverParameterized):
    """The transposed layers of every rank; `OverParameterized` names the attributes."""

    _compositions = ("kernel",)

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, ...],
        strides: int | tuple[int, ...] = 1,
        padding: str = "valid",
        output_padding: int | tuple[int, ...] | None = None,
        data_format: str | None = None,
        dilation_rate: int | tuple[int, ...] = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        *,
        d_mul: int | None = None,
        depthwise_init: DepthwiseInit = "identity",
        composition: Literal["kernel"] = "kernel",
        delta_regularizer: Any = None,
        delta_constraint: Any = None,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        """The arguments before `d_mul` are those of the plain layer.

        Args:
            kernel_initializer, kernel_regularizer, kernel_constraint: those of W.
            d_mul: D_mul, at least |K|, the default. Where |K| = 1 the layer is the plain one.
            depthwise_init: how D starts (Table 7), "identity" or "he".
            composition: "kernel"; Keras has no grouped transposed convolution for the other one.
            delta_regularizer: a penalty on D', which pulls D to the identity.
            delta_constraint: a projection of D'.
            kwargs: the keywords of every Keras layer, such as `name` and `dtype`.

        Raises:
            DOConvError: if an argument breaks a rule; the message names it.
        """
        rules.own_names(kwargs)
        spec = Spec(
            None,
            rules.integer("filters", filters),
            rules.axes("kernel_size", kernel_size, self._rank),
            d_mul=d_mul,
            transposed=True,
        )
        if output_padding is not None:
            output_padding = rules.axes("output_padding", output_padding, spec.rank, minimum=0)
        super().__init__(
            spec,
            composition,
            depthwise_init,
            delta_regularizer,
            delta_constraint,
            filters=spec.out_channels,
            kernel_size=spec.kernel_size,
            strides=rules.axes("strides", strides, spec.rank),
            padding=rules.choice("padding", lower(padding), ("valid", "same")),
            output_padding=output_padding,
            data_format=known_data_format(data_format),
            dilation_rate=rules.axes("dilation_rate", dilation_rate, spec.rank),
            activation=activation,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            activity_regularizer=activity_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
            **kwargs,
        )

    def _convolve(self, inputs: Any, kernel: Any) -> Any:
        window = self._window()
        return ops.conv_transpose(inputs, kernel, output_padding=self.output_padding, **window)


@keras.saving.register_keras_serializable("do_conv")
class DOConv1DTranspose(_DOConvTranspose, keras.layers.Conv1DTranspose):
    """An over-parameterized `keras.layers.Conv1DTranspose`: its arguments, and ours by keyword.

    Shapes: input `(N, L, C_in)`, output `(N, L', filters)` (channels last); `kernel` (W)
    `(*K, filters, C_in)`, `depthwise_delta` (D') `(*K, filters, D_mul)`, `bias` `(filters,)`.

    Examples:
        >>> import keras
        >>> from do_conv.tf import DOConv1DTranspose
        >>> layer = DOConv1DTranspose(16, 3, strides=2, padding="same")
        >>> tuple(layer(keras.ops.ones((1, 8, 3))).shape)
        (1, 16, 16)
        >>> type(layer.fold()).__name__
        'Conv1DTranspose'
    """

    _plain, _rank = keras.layers.Conv1DTranspose, 1


@keras.saving.register_keras_serializable("do_conv")
class DOConv2DTranspose(_DOConvTranspose, keras.layers.Conv2DTranspose):
    """An over-parameterized `keras.layers.Conv2DTranspose`: its arguments, and ours by keyword.

    Shapes: input `(N, H, W, C_in)`, output `(N, H', W', filters)` (channels last); `kernel` (W)
    `(*K, filters, C_in)`, `depthwise_delta` (D') `(*K, filters, D_mul)`, `bias` `(filters,)`.

    Examples:
        >>> import keras
        >>> from do_conv.tf import DOConv2DTranspose
        >>> layer = DOConv2DTranspose(16, 3, strides=2, padding="same")
        >>> tuple(layer(keras.ops.ones((1, 8, 8, 3))).shape)
        (1, 16, 16, 16)
        >>> type(layer.fold()).__name__
        'Conv2DTranspose'
    """

    _plain, _rank = keras.layers.Conv2DTranspose, 2


@keras.saving.register_keras_serializable("do_conv")
class DOConv3DTranspose(_DOConvTranspose, keras.layers.Conv3DTranspose):
    """An over-parameterized `keras.layers.Conv3DTranspose`: its arguments, and ours by keyword.

    Shapes: input `(N, D, H, W, C_in)`, output `(N, D', H', W', filters)` (channels last);
    `kernel` (W) `(*K, filters, C_in)`, `depthwise_delta` (D') `(*K, filters, D_mul)`, `bias`
    `(filters,)`.

    Examples:
        >>> import keras
        >>> from do_conv.tf import DOConv3DTranspose
        >>> layer = DOConv3DTranspose(16, 3, strides=2, padding="same")
        >>> tuple(layer(keras.ops.ones((1, 8, 8, 8, 3))).shape)
        (1, 16, 16, 16, 16)
        >>> type(layer.fold()).__name__
        'Conv3DTranspose'
    """

    _plain, _rank = keras.layers.Conv3DTranspose, 3

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, ...],
        strides: int | tuple[int, ...] = 1,
        padding: str = "valid",
        data_format: str | None = None,
        output_padding: int | tuple[int, ...] | None = None,
        dilation_rate: int | tuple[int, ...] = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        *,
        d_mul: int | None = None,
        depthwise_init: DepthwiseInit = "identity",
        composition: Literal["kernel"] = "kernel",
        delta_regularizer: Any = None,
        delta_constraint: Any = None,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        """`data_format` stands before `output_padding`, as in the plain layer.

        The arguments are otherwise those of `DOConv2DTranspose`, with three axes.

        Raises:
            DOConvError: if an argument breaks a rule; the message names it.
        """
        super().__init__(
            filters=filters,
            kernel_size=kernel_size,
            strides=strides,
            padding=padding,
            output_padding=output_padding,
            data_format=data_format,
            dilation_rate=dilation_rate,
            activation=activation,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            activity_regularizer=activity_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
            d_mul=d_mul,
            depthwise_init=depthwise_init,
            composition=composition,
            delta_regularizer=delta_regularizer,
            delta_constraint=delta_constraint,
            **kwargs,
        )
