"""What the layers over-parameterized by D' have in common."""

from __future__ import annotations

from typing import Any, ClassVar

from keras import constraints, ops, regularizers

from do_conv.core import rules
from do_conv.core.rules import CompositionName, DepthwiseInit
from do_conv.core.spec import Spec
from do_conv.tf.composed import Composed
from do_conv.tf.composition import compose_spec, depthwise_kernel, pointwise_kernel
from do_conv.tf.starts import DeltaStart


class OverParameterized(Composed):
    """A Keras convolution that trains W and D', and convolves with the kernel composed of both.

    Attributes:
        kernel: W, in the plain layer's shape, or with D_mul in place of *K where D_mul is not |K|.
            It is not the kernel that is applied: that is `composed_kernel()`.
        depthwise_delta: D' = D - I, `(*K, C_in, D_mul)`, for a transposed layer
            `(*K, filters, D_mul)`; None where |K| = 1.
        bias: as the plain layer's.
    """

    _kernel_name: ClassVar[str] = "kernel"

    def _set_options(
        self,
        d_mul: int | None,
        depthwise_init: DepthwiseInit,
        composition: CompositionName,
        delta_regularizer: Any,
        delta_constraint: Any,
    ) -> None:
        """Keep the arguments that are ours."""
        self.d_mul = rules.depth_multiplier(d_mul, self.kernel_size)
        self.depthwise_init = rules.depthwise_init(depthwise_init)
        self._set_composition(composition)
        self.delta_regularizer = regularizers.get(delta_regularizer)
        self.delta_constraint = constraints.get(delta_constraint)

    def build(self, input_shape: Any) -> None:
        """Make W, the bias and D' for an input of this shape."""
        super().build(input_shape)
        self.depthwise_delta = None
        if self.spec.has_delta:
            self.depthwise_delta = self.add_weight(
                name="depthwise_delta",
                shape=(*self.spec.kernel_size, self.spec.depthwise_channels, self.spec.d_mul),
                initializer=DeltaStart(self.depthwise_init, self.spec),
                regularizer=self.delta_regularizer,
                constraint=self.delta_constraint,
                dtype=self.dtype,
                autocast=False,
            )

    def add_weight(self, *args: Any, name: str | None = None, **kwargs: Any) -> Any:
        """Make a variable; W may have D_mul slots, and is composed in its own precision."""
        if name == self._kernel_name:
            kwargs["autocast"] = False
            if not self.spec.has_plain_weight:
                kwargs["shape"] = (self.spec.d_mul, *kwargs["shape"][self.rank :])
        return super().add_weight(*args, name=name, **kwargs)

    def composed_kernel(self) -> Any:
        """W', the kernel that is applied, in the plain shape, differentiable in W and D'."""
        rules.built(self.name, self.built)
        return self._composed(getattr(self, self._kernel_name))

    def _composed(self, kernel: Any) -> Any:
        if self.depthwise_delta is None:
            return ops.convert_to_tensor(kernel)
        kernel = ops.cast(kernel, self.depthwise_delta.dtype)
        return compose_spec(kernel, ops.convert_to_tensor(self.depthwise_delta), self.spec)

    def _convolve(self, inputs: Any) -> Any:
        return self.convolution_op(inputs, self.kernel)

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """Convolve with W' (or with D, then W, under feature composition), given W."""
        window = self._window()
        if self.padding == "causal":
            window["padding"], inputs = "valid", self._pad_before(inputs)
        if self._chosen_composition() == "feature" and self.depthwise_delta is not None:
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
            merged = {"0": getattr(self, self._kernel_name)}
            for key, variable in {**self._stored(), **merged}.items():
                store[key] = variable

    def load_own_variables(self, store: Any) -> None:
        """Read what `save_own_variables` wrote.

        Raises:
            DOConvError: if the file has no such layer, as that of a plain model, or a parameter is
                missing or has another shape.
        """
        rules.built(self.name, self.built or not store.keys())
        self._check_stored(store)
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
            **super()._own_config(),
            "delta_regularizer": regularizers.serialize(self.delta_regularizer),
            "delta_constraint": constraints.serialize(self.delta_constraint),
        }

    def __repr__(self) -> str:
        """What the plain layer shows, and what differs from the defaults."""
        spec = Spec(None, 1, self.kernel_size, d_mul=self.d_mul)
        return (
            super().__repr__()[:-1] + spec.differences(self.depthwise_init, self.composition) + ">"
        )
