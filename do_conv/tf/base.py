"""What a convolution and a depthwise convolution over-parameterized by D' have in common."""

from __future__ import annotations

from typing import Any, ClassVar

import keras
import numpy as np
from keras import constraints, initializers, ops, regularizers

from do_conv.core import layouts, rules
from do_conv.core.spec import Spec
from do_conv.core.starts import Normal, delta_start
from do_conv.tf.composition import compose_spec, depthwise_kernel, pointwise_kernel


class OverParameterized(keras.layers.Layer):
    """A Keras convolution that trains W and D', and convolves with the kernel composed of both.

    It stands before the plain Keras layer among a class's bases, and relies on its attributes.

    Attributes:
        kernel: W, in the plain layer's shape, or with D_mul in place of *K where D_mul is not |K|.
            It is not the kernel that is applied: that is `composed_kernel()`.
        depthwise_delta: D' = D - I, `(*K, C_in, D_mul)`; None where |K| = 1.
        bias: as the plain layer's.
    """

    _plain: ClassVar[Any]

    def _set_options(
        self,
        d_mul: int | None,
        depthwise_init: str,
        composition: str,
        delta_regularizer: Any,
        delta_constraint: Any,
    ) -> None:
        """Keep the arguments that are ours."""
        self.d_mul = rules.depth_multiplier(d_mul, self.kernel_size)
        self.depthwise_init = rules.depthwise_init(depthwise_init)
        self.composition = rules.composition(composition)
        self.delta_regularizer = regularizers.get(delta_regularizer)
        self.delta_constraint = constraints.get(delta_constraint)
        # `build` and `call` say what an input must be, in the words every framework's layers use.
        self.input_spec = None

    def _spec_for(self, in_channels: int) -> Spec:
        """The layer's sizes, given the input's channels."""
        raise NotImplementedError

    @property
    def _channel_axis(self) -> int:
        return -1 if self.data_format == "channels_last" else 1

    def build(self, input_shape: Any) -> None:
        """Make W, the bias and D' for an input of this shape."""
        rules.input_rank(input_shape, self.rank)
        self.spec = self._spec_for(rules.known_channels(input_shape[self._channel_axis]))
        # LoRA locks the layer's variables as soon as it is enabled: D' has to be there by then.
        lora_rank, self.lora_rank = getattr(self, "lora_rank", None), None
        super().build(input_shape)
        self.input_spec = None
        self.depthwise_delta = None
        if self.spec.has_delta:
            self.depthwise_delta = self.add_weight(
                name="depthwise_delta",
                shape=(*self.spec.kernel_size, self.spec.in_channels, self.spec.d_mul),
                initializer=_DeltaStart(delta_start(self.depthwise_init, self.spec)),
                regularizer=self.delta_regularizer,
                constraint=self.delta_constraint,
                dtype=self.dtype,
                autocast=False,
            )
        if lora_rank:
            self.enable_lora(lora_rank, lora_alpha=self.lora_alpha)

    def add_weight(self, *args: Any, name: str | None = None, **kwargs: Any) -> Any:
        """Make a variable; W may have D_mul slots, and is composed in its own precision."""
        if name == "kernel":
            kwargs["autocast"] = False
            if not self.spec.has_plain_weight:
                kwargs["shape"] = (self.spec.d_mul, *kwargs["shape"][self.rank :])
        return super().add_weight(*args, name=name, **kwargs)

    def composed_kernel(self) -> Any:
        """W', the kernel that is applied, `(*K, C_in/G, C_out)`, differentiable in W and D'."""
        rules.built(self.name, self.built)
        return self._composed(self.kernel)

    def _composed(self, kernel: Any) -> Any:
        if self.depthwise_delta is None:
            return ops.convert_to_tensor(kernel)
        kernel = ops.cast(kernel, self.depthwise_delta.dtype)
        return compose_spec(kernel, ops.convert_to_tensor(self.depthwise_delta), self.spec)

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """Convolve with W' (or with D, then W, under feature composition), given W."""
        padding = self.padding
        if padding == "causal":
            padding, inputs = "valid", self._pad_before(inputs)
        window = {
            "strides": self.strides,
            "padding": padding,
            "dilation_rate": self.dilation_rate,
            "data_format": self.data_format,
        }
        if rules.composition(self.composition) == "feature" and self.depthwise_delta is not None:
            delta = ops.convert_to_tensor(self.depthwise_delta)
            return self._convolve_features(inputs, kernel, delta, window)
        composed = ops.cast(self._composed(kernel), self.compute_dtype)
        return self._convolve_plain(inputs, composed, window)

    def _convolve_plain(self, inputs: Any, kernel: Any, window: dict[str, Any]) -> Any:
        """The plain layer's own operation."""
        return ops.conv(inputs, kernel, **window)

    def _convolve_features(
        self, inputs: Any, kernel: Any, delta: Any, window: dict[str, Any]
    ) -> Any:
        """Feature composition: stride, padding and dilation belong to the depthwise convolution."""
        depthwise = ops.cast(depthwise_kernel(delta, self.spec), self.compute_dtype)
        pointwise = ops.cast(pointwise_kernel(kernel, self.spec), self.compute_dtype)
        features = self._convolve_depthwise(inputs, depthwise, window)
        return ops.conv(features, pointwise, data_format=self.data_format)

    def _convolve_depthwise(self, inputs: Any, kernel: Any, window: dict[str, Any]) -> Any:
        # A grouped convolution: `depthwise_conv` has neither three axes nor, on TensorFlow,
        # strides that differ.
        shape = (*self.spec.kernel_size, 1, self.spec.in_channels * self.spec.d_mul)
        return ops.conv(inputs, ops.reshape(kernel, shape), **window)

    def _pad_before(self, inputs: Any) -> Any:
        """Causal padding: an output sees no later input."""
        before = [self.dilation_rate[0] * (self.kernel_size[0] - 1), 0]
        last = self.data_format == "channels_last"
        return ops.pad(inputs, [[0, 0], before, [0, 0]] if last else [[0, 0], [0, 0], before])

    def call(self, inputs: Any) -> Any:
        """Convolve, add the bias, apply the activation.

        Written here because `Conv1D` and `DepthwiseConv2D` do not pass through `convolution_op`.
        """
        rules.built(self.name, self.built)
        self._check_input(inputs)
        outputs = self.convolution_op(inputs, self.kernel)
        if self.use_bias:
            shape = [1] * (self.rank + 2)
            shape[self._channel_axis] = -1
            outputs = ops.add(outputs, ops.reshape(self.bias, shape))
        return outputs if self.activation is None else self.activation(outputs)

    def _check_input(self, inputs: Any) -> None:
        last = self.data_format == "channels_last"
        rules.input_shape(inputs.shape, self.rank, self.spec.in_channels, channels_last=last)
        rules.input_dtype(keras.backend.standardize_dtype(inputs.dtype), self.compute_dtype)

    def fold(self, *, check_finite: bool = True) -> Any:
        """The plain Keras layer that does the same.

        Args:
            check_finite: False folds parameters that hold NaN or infinity, too.

        Returns:
            a new layer of the plain class, with the same name and configuration, built, with W' as
            its kernel.

        Raises:
            DOConvError: if the layer has not been built, or W' or the bias is not finite.
        """
        rules.built(self.name, self.built)
        config = self.get_config()
        for ours in (*self._own_config(), "lora_rank", "lora_alpha"):
            config.pop(ours, None)
        plain = self._plain.from_config(config)
        shape: list[int | None] = [None] * (self.rank + 2)
        shape[self._channel_axis] = self.spec.in_channels
        plain.build(tuple(shape))
        # Through NumPy: jax's variables would otherwise share their memory.
        values = {"kernel": ops.convert_to_numpy(self.composed_kernel())}
        if self.use_bias:
            values["bias"] = ops.convert_to_numpy(self.bias)
        for name, value in values.items():
            if check_finite:
                rules.finite(name, bool(np.isfinite(value.astype("float64")).all()))
            getattr(plain, name).assign(value)
        return plain

    def _stored(self) -> dict[str, Any]:
        """The variables under their keys in a weights file: Keras's own, and one for D'."""
        stored = {"0": self._kernel_variable()}
        if self.use_bias:
            stored["1"] = self.bias
        if self.depthwise_delta is not None:
            stored["depthwise_delta"] = self.depthwise_delta
        return stored

    def _kernel_variable(self) -> Any:
        return self.kernel

    def save_own_variables(self, store: Any) -> None:
        """Write W, the bias and D'; a LoRA is merged into W, as Keras does."""
        if self.built:
            for key, variable in {**self._stored(), "0": self.kernel}.items():
                store[key] = variable

    def load_own_variables(self, store: Any) -> None:
        """Read what `save_own_variables` wrote.

        Raises:
            DOConvError: if a parameter is missing or has another shape.
        """
        rules.built(self.name, self.built or not store.keys())
        stored = self._stored() if self.built else {}
        rules.stored_keys(self.name, list(stored), list(store.keys()))
        for key, variable in stored.items():
            rules.stored_shape(f"{variable.path}", variable.shape, store[key].shape)
        for key, variable in stored.items():
            variable.assign(store[key])

    def _own_config(self) -> dict[str, Any]:
        return {
            "d_mul": self.d_mul,
            "depthwise_init": self.depthwise_init,
            "composition": self.composition,
            "delta_regularizer": regularizers.serialize(self.delta_regularizer),
            "delta_constraint": constraints.serialize(self.delta_constraint),
        }

    def get_config(self) -> dict[str, Any]:
        """The arguments the layer can be made from again."""
        return {**super().get_config(), **self._own_config()}

    def __repr__(self) -> str:
        """What the plain layer shows, and what differs from the defaults."""
        spec = Spec(None, 1, self.kernel_size, d_mul=self.d_mul)
        return (
            super().__repr__()[:-1] + spec.differences(self.depthwise_init, self.composition) + ">"
        )


class _DeltaStart(initializers.Initializer):
    """Draws D' in Keras's layout from the distribution the core names."""

    def __init__(self, start: Normal) -> None:
        self.start = start

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        if not self.start.std:
            return ops.zeros(shape, dtype)
        drawn = initializers.RandomNormal(0, self.start.std)(shape, dtype)
        return drawn + ops.cast(layouts.delta_to_keras(self.start.mean[None]), dtype)


def lower(word: Any) -> Any:
    """Keras takes its words in any case; what is not a word is left to the rules."""
    return word.lower() if isinstance(word, str) else word


def known_data_format(data_format: Any) -> Any:
    """The order of the axes, or None for Keras's setting."""
    if data_format is None:
        return None
    return rules.choice("data_format", lower(data_format), ("channels_last", "channels_first"))
