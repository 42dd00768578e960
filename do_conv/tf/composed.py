"""The base of every layer: a Keras convolution whose kernel is composed of two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from do_conv.core import rules
from do_conv.core.errors import broken
from do_conv.core.rules import CompositionName
from do_conv.core.spec import Spec
from do_conv.models import checks
from do_conv.tf.composition import compose_spec
from do_conv.tf.models.structure import children
from do_conv.tf.plain import configuration, copy_state, made_like

_TWIN = "make the plain model with this forward pass, and give folded_weights(model) to set_weights"
_BY_HAND = "take the kernel from composed_kernel() for a plain layer of yours"


class Composed(keras.layers.Layer):
    """A convolution whose kernel is composed.

    Among a class's bases it stands before the plain layer, whose methods it extends.

    Attributes:
        spec: the sizes; its channels are None until the layer is built.
        composition: "kernel" or "feature"; it may be changed at any time.
    """

    _plain: ClassVar[Any]  # the plain layer's class
    _rank: ClassVar[int]
    _plain_kernel_names: ClassVar[Sequence[str]] = ("kernel",)  # axes in the plain layer's order
    _kernel_name: ClassVar[str] = "kernel"  # W
    _delta_name: ClassVar[str]  # the variable on top of W: D', or the D of a separable layer
    _compositions: ClassVar[Sequence[str]] = rules.COMPOSITIONS

    spec: Spec
    composition: CompositionName

    def __init__(self, spec: Spec, composition: CompositionName, **plain: Any) -> None:
        """Make the plain layer of these arguments; its variables come with `build`."""
        super().__init__(**plain)
        self.spec, self.composition = spec, composition
        rules.choice("composition", composition, self._compositions)
        # `build` and `call` check the input, with the messages of the other frameworks.
        self.input_spec = None

    @property
    def _channel_axis(self) -> int:
        return -1 if self.data_format == "channels_last" else 1

    def _spec_for(self, in_channels: int) -> Spec:
        """The layer's sizes, given the input's channels."""
        return self.spec.with_in_channels(in_channels)

    def build(self, input_shape: Any) -> None:
        """Make the variables for an input of this shape."""
        rules.input_kind(input_shape is not None, "tensor", "NoneType")
        rules.input_rank(input_shape, self.rank)
        self.spec = self._spec_for(rules.known_channels(input_shape[self._channel_axis]))
        super().build(input_shape)
        self.input_spec = None

    def composed_kernel(self) -> Any:
        """W', the kernel that is applied, in the plain shape, differentiable in W and D (or D')."""
        rules.built(self.name, self.built)
        return self._compose(getattr(self, self._kernel_name))

    def _compose(self, kernel: Any) -> Any:
        """W', given W."""
        delta = getattr(self, self._delta_name)
        if delta is None:
            return ops.convert_to_tensor(kernel)
        kernel = ops.cast(kernel, delta.dtype)
        return compose_spec(kernel, ops.convert_to_tensor(delta), self.spec)

    def call(self, inputs: Any) -> Any:
        """Convolve, add the bias, apply the activation.

        Raises:
            DOConvError: if the input's rank, channels or dtype are not the layer's.
        """
        rules.built(self.name, self.built)
        self._check_input(inputs)
        outputs = self.convolution_op(inputs, getattr(self, self._kernel_name))
        if self.use_bias:
            shape = [1] * (self.rank + 2)
            shape[self._channel_axis] = -1
            outputs = ops.add(outputs, ops.reshape(self.bias, shape))
        return outputs if self.activation is None else self.activation(outputs)

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """Convolve with W' (or with D, then W, under feature composition), given W."""
        if self._convolves_twice():
            return self._convolve_features(inputs, kernel)
        return self._convolve(inputs, ops.cast(self._compose(kernel), self.compute_dtype))

    def _convolves_twice(self) -> bool:
        """Whether feature composition is chosen, and there is a D to convolve with."""
        composition = rules.choice("composition", self.composition, self._compositions)
        return composition == "feature" and self.spec.has_delta

    def _convolve(self, inputs: Any, kernel: Any) -> Any:
        """Convolve with one kernel by the plain layer's own operation."""
        return ops.conv(inputs, kernel, **self._window())

    def _convolve_features(self, inputs: Any, kernel: Any) -> Any:
        """Feature composition: stride, padding and dilation belong to the depthwise convolution."""
        raise NotImplementedError

    def _window(self) -> dict[str, Any]:
        """The options of `keras.ops` that say how the kernel slides."""
        return {
            "strides": self.strides,
            "padding": self.padding,
            "dilation_rate": self.dilation_rate,
            "data_format": self.data_format,
        }

    def _check_input(self, inputs: Any) -> None:
        last = self.data_format == "channels_last"
        rules.input_kind(hasattr(inputs, "shape"), "tensor", type(inputs).__name__)
        rules.input_shape(inputs.shape, self.rank, self.spec.in_channels, channels_last=last)
        rules.input_dtype(keras.backend.standardize_dtype(inputs.dtype), self.compute_dtype)

    def load_own_variables(self, store: Any) -> None:
        """Read what `save_own_variables` wrote.

        Raises:
            DOConvError: if the file has no such layer; that of a plain model has none.
        """
        self._check_stored(store)
        super().load_own_variables(store)

    def _check_stored(self, store: Any) -> None:
        if self.built and not store.keys():
            raise broken(
                f"a weights file must hold layer '{self.name}' as a {type(self).__name__}, since "
                "Keras stores layers by class",
                "a file without it",
                "if the file is the plain model's, load it into the plain model and then convert "
                "that model with do_conv.tf.convert",
            )

    def fold(self, *, check_finite: bool = True) -> Any:
        """Make the plain Keras layer that does the same.

        Args:
            check_finite: False folds parameters that hold NaN or infinity, too.

        Returns:
            a new layer of the plain class, with the same name and configuration, built, with W' as
            its kernel. A separable layer's plain class has two kernels, and keeps both.

        Raises:
            DOConvError: if the layer has not been built or is of a subclass with a forward pass of
                its own, or a kernel or the bias is not finite.
        """
        values = self.folded_values(check_finite=check_finite)
        plain = self._unbuilt_plain()
        shape: list[int | None] = [None] * (self.rank + 2)
        shape[self._channel_axis] = self.spec.in_channels
        plain.build(tuple(shape))
        for name, value in values.items():
            variable, kernel = getattr(plain, name), getattr(self, name)
            variable.assign(value)
            if isinstance(kernel, keras.Variable):  # with LoRA the kernel is a sum
                variable.trainable = kernel.trainable
        for child, copy in zip(children(self), children(plain), strict=True):
            if child.built and not copy.built:  # an activation that is a layer
                copy.build_from_config(child.get_build_config())
            copy_state(child, copy)
        return plain

    def _unbuilt_plain(self) -> Any:
        """A plain layer with this one's configuration, without variables.

        Raises:
            DOConvError: if the layer is of a subclass with a forward pass of its own.
        """
        self._check_forward("call", _TWIN)
        known = configuration(self, self._plain).keys() - {"lora_rank", "lora_alpha"}
        without = configuration(self, type(self)).keys() - known
        return made_like(self, self._plain, without=without)

    def folded_values(self, *, check_finite: bool = True) -> dict[str, np.ndarray]:
        """The plain layer's variables by name, in its order, as new arrays; see `fold`."""
        rules.built(self.name, self.built)
        self._check_forward("convolution_op", _BY_HAND)
        kernels = self._plain_kernels()
        if self.use_bias:
            kernels["bias"] = self.bias
        # Through NumPy, which copies: jax's variables would otherwise share their memory.
        values = {name: ops.convert_to_numpy(kernel) for name, kernel in kernels.items()}
        for name, value in values.items():
            if check_finite:
                rules.finite(name, bool(np.isfinite(value.astype("float64")).all()))
        return values

    def _check_forward(self, method: str, remedy: str) -> None:
        checks.forward_of_ours(type(self), self._plain, (method,), remedy)

    def _plain_kernels(self) -> dict[str, Any]:
        """The kernels of the plain layer that does the same, by name."""
        return {name: getattr(self, name) for name in self._plain_kernel_names}

    def _own_config(self) -> dict[str, Any]:
        """The arguments that are ours."""
        return {"composition": self.composition}

    def get_config(self) -> dict[str, Any]:
        """The arguments the layer can be made from again."""
        return {**super().get_config(), **self._own_config()}
