"""The base of the layers that are over-parameterized by D'."""

from __future__ import annotations

from typing import Any

from keras import constraints, initializers, ops, regularizers

from do_conv.core import rules
from do_conv.core.errors import broken
from do_conv.core.rules import CompositionName, DepthwiseInit
from do_conv.core.spec import Spec
from do_conv.tf.composed import Composed
from do_conv.tf.composition import depthwise_kernel, pointwise_kernel
from do_conv.tf.slots import OfPlainShape, like_plain
from do_conv.tf.starts import DeltaStart


class OverParameterized(Composed):
    """A convolution over-parameterized by a depthwise kernel (Cao et al., arXiv 2006.12030).

    Attributes:
        kernel: W, in the plain layer's shape, or with D_mul in place of *K where D_mul is not |K|.
            It is not the kernel that is applied: that is `composed_kernel()`.
        depthwise_delta: D' = D - I, `(*K, C_in, D_mul)`, for a transposed layer
            `(*K, filters, D_mul)`; None where |K| = 1.
        bias: as the plain layer's.
    """

    _delta_name = "depthwise_delta"

    def __init__(
        self,
        spec: Spec,
        composition: CompositionName,
        depthwise_init: DepthwiseInit,
        delta_regularizer: Any,
        delta_constraint: Any,
        **plain: Any,
    ) -> None:
        super().__init__(spec, composition, **plain)
        self.depthwise_init = rules.depthwise_init(depthwise_init)
        self.delta_regularizer = regularizers.get(delta_regularizer)
        self.delta_constraint = constraints.get(delta_constraint)

    @property
    def d_mul(self) -> int:
        """D_mul."""
        return int(self.spec.d_mul)

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
                start = initializers.get(kwargs["initializer"])
                kwargs["initializer"] = like_plain(start, self.spec, OfPlainShape)
                for own in ("regularizer", "constraint"):
                    kwargs[own] = like_plain(kwargs[own], self.spec)
        return super().add_weight(*args, name=name, **kwargs)

    def _convolve_features(self, inputs: Any, kernel: Any) -> Any:
        delta = ops.convert_to_tensor(self.depthwise_delta)
        depthwise = ops.cast(depthwise_kernel(delta, self.spec), self.compute_dtype)
        pointwise = ops.cast(pointwise_kernel(kernel, self.spec), self.compute_dtype)
        features = self._convolve_depthwise(inputs, depthwise)
        return ops.conv(features, pointwise, data_format=self.data_format)

    def _convolve_depthwise(self, inputs: Any, kernel: Any) -> Any:
        """Convolve with D, `(*K, C_in, D_mul)`."""
        # A grouped convolution: `depthwise_conv` has neither three axes nor, on TensorFlow,
        # strides that differ.
        shape = (*self.spec.kernel_size, 1, self.spec.in_channels * self.spec.d_mul)
        return ops.conv(inputs, ops.reshape(kernel, shape), **self._window())

    def _plain_kernels(self) -> dict[str, Any]:
        return {**super()._plain_kernels(), self._kernel_name: self.composed_kernel()}

    def _stored(self) -> dict[str, Any]:
        """The variables under their keys in a weights file: Keras's own, and one for D'."""
        names = [*self._plain_kernel_names, *["bias"] * self.use_bias]
        stored = {str(i): getattr(self, name) for i, name in enumerate(names)}
        if self.depthwise_delta is not None:
            stored["depthwise_delta"] = self.depthwise_delta
        return stored

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
        if set(store.keys()) != set(stored):
            raise broken(
                f"the stored parameters of layer '{self.name}' must be {sorted(stored)}",
                f"{sorted(store.keys())}",
                "load a file saved from the same kind of layer, with the same bias and kernel_size",
            )
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
        """The plain layer's, and the options that are not the default."""
        shown = self.spec.differences(self.depthwise_init, self.composition)
        return super().__repr__()[:-1] + shown + ">"
