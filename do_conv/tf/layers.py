"""The convolutions: `keras.layers.Conv1D`, `2D` and `3D`, over-parameterized."""

from __future__ import annotations

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


class _DOConv(OverParameterized):
    """The convolutions of every rank; `OverParameterized` names the attributes."""

    lora_rank: Any  # the plain layer's class

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, ...],
        strides: int | tuple[int, ...] = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: int | tuple[int, ...] = 1,
        groups: int = 1,
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
        composition: CompositionName = "kernel",
        delta_regularizer: Any = None,
        delta_constraint: Any = None,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        """The arguments before `d_mul` are those of `Conv1D`, `2D` or `3D`.

        Args:
            groups: G; 1 is DO-Conv, C_in is DO-DConv, anything between is DO-GConv.
            kernel_initializer, kernel_regularizer, kernel_constraint: those of W.
            d_mul: D_mul, at least |K|, the default. Where |K| = 1 the layer is the plain one.
            depthwise_init: how D starts (Table 7): "identity", with which the layer starts as the
                plain one, or "he", normal with standard deviation `sqrt(2/|K|)`.
            composition: "kernel" composes one kernel and convolves once; "feature" convolves twice
                (equation 3). Both give the same output; the attribute may be changed at any time,
                but a function that `compile` or `tf.function` traced before keeps the old one.
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
            groups,
            d_mul,
        )
        strides = rules.axes("strides", strides, spec.rank)
        rules.warn_of_stride(strides, spec.kernel_size)
        words = ("valid", "same", "causal") if spec.rank == 1 else ("valid", "same")
        super().__init__(
            spec,
            composition,
            depthwise_init,
            delta_regularizer,
            delta_constraint,
            filters=spec.out_channels,
            kernel_size=spec.kernel_size,
            strides=strides,
            padding=rules.choice("padding", lower(padding), words),
            data_format=known_data_format(data_format),
            dilation_rate=rules.axes("dilation_rate", dilation_rate, spec.rank),
            groups=spec.groups,
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

    def build(self, input_shape: Any) -> None:
        """Make W, the bias and D' for an input of this shape, then a LoRA that was asked for."""
        # Enabling LoRA locks the layer's variables, so D' must exist before.
        lora_rank, self.lora_rank = self.lora_rank, None
        super().build(input_shape)
        if lora_rank:
            self.enable_lora(lora_rank, lora_alpha=self.lora_alpha)

    def enable_lora(self, rank: int, *args: Any, **kwargs: Any) -> None:
        """Train a low-rank change of W alone: W and D' are frozen."""
        super().enable_lora(rank, *args, **kwargs)
        if self.depthwise_delta is not None:
            self.depthwise_delta.trainable = False

    def _stored(self) -> dict[str, Any]:
        # With LoRA, the property `kernel` is the sum of this variable and the low-rank product.
        return {**super()._stored(), "0": self._kernel}

    def load_own_variables(self, store: Any) -> None:
        """Read W, the bias and D'; what was stored has its LoRA merged, so a LoRA starts anew."""
        super().load_own_variables(store)
        if self.lora_enabled:
            # The product is zero. With zeros in both, as Keras has it, neither would train.
            self.lora_kernel_b.assign(ops.zeros(self.lora_kernel_b.shape))


@keras.saving.register_keras_serializable("do_conv")
class DOConv1D(_DOConv, keras.layers.Conv1D):
    """An over-parameterized `keras.layers.Conv1D`: its arguments, and ours by keyword.

    Shapes: input `(N, L, C_in)`, output `(N, L', filters)` (channels last); `kernel` (W)
    `(*K, C_in/G, filters)`, `depthwise_delta` (D') `(*K, C_in, D_mul)`, `bias` `(filters,)`.

    Examples:
        >>> import keras
        >>> from do_conv.tf import DOConv1D
        >>> layer = DOConv1D(16, 3, padding="same")
        >>> tuple(layer(keras.ops.ones((1, 8, 3))).shape)
        (1, 8, 16)
        >>> type(layer.fold()).__name__
        'Conv1D'
    """

    _plain, _rank = keras.layers.Conv1D, 1

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """Convolve with W' (or with D, then W, under feature composition), given W."""
        if self.padding == "causal":
            inputs = self._pad_before(inputs)
        return super().convolution_op(inputs, kernel)

    def _pad_before(self, inputs: Any) -> Any:
        """Causal padding: an output sees no later input."""
        before = [self.dilation_rate[0] * (self.kernel_size[0] - 1), 0]
        last = self.data_format == "channels_last"
        return ops.pad(inputs, [[0, 0], before, [0, 0]] if last else [[0, 0], [0, 0], before])

    def _window(self) -> dict[str, Any]:
        # `convolution_op` has padded the inputs.
        window = super()._window()
        return {**window, "padding": "valid"} if self.padding == "causal" else window


@keras.saving.register_keras_serializable("do_conv")
class DOConv2D(_DOConv, keras.layers.Conv2D):
    """An over-parameterized `keras.layers.Conv2D`: its arguments, and ours by keyword.

    Shapes: input `(N, H, W, C_in)`, output `(N, H', W', filters)` (channels last); `kernel` (W)
    `(*K, C_in/G, filters)`, `depthwise_delta` (D') `(*K, C_in, D_mul)`, `bias` `(filters,)`.

    Examples:
        >>> import keras
        >>> from do_conv.tf import DOConv2D
        >>> layer = DOConv2D(16, 3, padding="same")
        >>> tuple(layer(keras.ops.ones((1, 8, 8, 3))).shape)
        (1, 8, 8, 16)
        >>> type(layer.fold()).__name__
        'Conv2D'
    """

    _plain, _rank = keras.layers.Conv2D, 2


@keras.saving.register_keras_serializable("do_conv")
class DOConv3D(_DOConv, keras.layers.Conv3D):
    """An over-parameterized `keras.layers.Conv3D`: its arguments, and ours by keyword.

    Shapes: input `(N, D, H, W, C_in)`, output `(N, D', H', W', filters)` (channels last);
    `kernel` (W) `(*K, C_in/G, filters)`, `depthwise_delta` (D') `(*K, C_in, D_mul)`, `bias`
    `(filters,)`.

    Examples:
        >>> import keras
        >>> from do_conv.tf import DOConv3D
        >>> layer = DOConv3D(16, 3, padding="same")
        >>> tuple(layer(keras.ops.ones((1, 8, 8, 8, 3))).shape)
        (1, 8, 8, 8, 16)
        >>> type(layer.fold()).__name__
        'Conv3D'
    """

    _plain, _rank = keras.layers.Conv3D, 3
