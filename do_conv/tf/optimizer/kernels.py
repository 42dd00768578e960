"""A plain kernel of a network, and the W and D' that are trained in its place."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import keras
from keras import ops

from do_conv.core.rules import DepthwiseInit
from do_conv.core.spec import Spec
from do_conv.models import samples
from do_conv.tf.composition import compose_spec, gradients
from do_conv.tf.optimizer.compiled import all_before_any, on_arrays
from do_conv.tf.slots import like_plain
from do_conv.tf.starts import DeltaStart, weight_for

# How many variables of the optimizer a kernel has: W, D', and the values that were written last.
VARIABLES = 3
# How near the values of a kernel that are compared have to be, as a share of the largest: what is
# compiled may round the kernel and the values it kept differently.
_NEAR = {"float64": 1e-14, "float32": 1e-5, "float16": 2e-3, "bfloat16": 1e-2}


class TrainedKernel:
    """A network's kernel W' with its W and D', which are variables of the optimizer.

    Attributes:
        name: the name of the layer whose kernel it is.
        spec: the sizes.
        parameter: W', the network's own variable.
        weight: W, in the shape of W' or with D_mul in place of *K, under the constraint of W'.
        delta: D', `(*K, C_in, D_mul)`, for a transposed layer `(*K, filters, D_mul)`.
    """

    def __init__(self, optimizer: Any, variable: Any, name: str, spec: Spec) -> None:
        self.name, self.spec, self.parameter = name, spec, variable
        self._dtype = keras.backend.standardize_dtype(variable.dtype)
        # A kernel of a narrow dtype has its W and D' in float32.
        dtype = "float64" if self._dtype == "float64" else "float32"
        shape = tuple(variable.shape)
        slots = shape if spec.has_plain_weight else (spec.d_mul, *shape[spec.rank :])
        delta = (*spec.kernel_size, spec.depthwise_channels, spec.d_mul)
        self._places = samples.places(math.prod(shape))
        self.weight = _added(
            optimizer, variable.path, slots, dtype,
            layout=getattr(variable, "_layout", None) if slots == shape else None,
        )  # fmt: skip
        self.weight.constraint = like_plain(variable.constraint, spec)
        scope = variable.path.rpartition("/")[0]
        self.delta = _added(optimizer, f"{scope}/depthwise_delta", delta, dtype)
        name = f"{variable.path}_written".replace("/", "_")
        self._written = optimizer.add_variable(
            self._places.shape, dtype=dtype, name=name, aggregation="only_first_replica"
        )

    def start(self, depthwise_init: DepthwiseInit) -> None:
        """Take the kernel as the one that D = I gives, then start D'."""
        # Through NumPy: on jax two variables would otherwise share their memory.
        value = ops.convert_to_numpy(ops.cast(self.parameter, self.weight.dtype))
        self.weight.assign(weight_for(value, self.spec, self.weight))
        start = DeltaStart(depthwise_init, self.spec)
        self.delta.assign(start(self.delta.shape, self.delta.dtype))
        if depthwise_init == "identity":
            self._written.assign(self._sample(self.parameter))
        else:
            self.compose()

    @property
    def parts(self) -> tuple[Any, Any]:
        """W and D'."""
        return self.weight, self.delta

    def differentiate(self, grad: Any) -> tuple[Any, Any]:
        """The gradients of W and D', by the chain rule from that of W'."""
        grad = ops.cast(grad, self.weight.dtype)
        weight, delta = map(self._tensor, self.parts)
        return all_before_any(on_arrays(gradients, self.spec, grad, weight, delta))

    def compose(self) -> None:
        """Write W', of W and D' as they are now, into the network."""
        weight, delta = map(self._tensor, self.parts)
        composed = on_arrays(compose_spec, self.spec, weight, delta)
        composed = ops.cast(ops.reshape(composed, self.parameter.shape), self._dtype)
        self._written.assign(self._sample(composed))
        self.parameter.assign(composed)

    def is_as_composed(self) -> Any:
        """Whether a sample of the kernel is what was written last, as a tensor."""
        now, written = self._sample(self.parameter), self._tensor(self._written)
        near = ops.abs(now - written) <= _NEAR[self._dtype] * ops.max(ops.abs(written))
        is_nan = ops.logical_and(ops.isnan(now), ops.isnan(written))
        return ops.all(near | (now == written) | is_nan)

    def _sample(self, kernel: Any) -> Any:
        """Some values, spread over the kernel."""
        flat = ops.reshape(self._tensor(kernel), (-1,))
        return ops.cast(ops.take(flat, self._places), self.weight.dtype)

    @staticmethod
    def _tensor(variable: Any) -> Any:
        return ops.convert_to_tensor(variable)


def _added(optimizer: Any, path: str, shape: Any, dtype: str, layout: Any = None) -> Any:
    """A variable of an optimizer, with the path that a layer's has.

    Optimizers inside choose by it, and `add_variable` would put the optimizer's name before it.
    """
    *scopes, name = filter(None, path.split("/"))
    with contextlib.ExitStack() as stack:
        for depth, scope in enumerate(scopes):
            # Whoever builds the optimizer may have opened scopes of its own.
            outermost = {} if depth else {"override_parent": ""}
            stack.enter_context(keras.name_scope(scope, **outermost))
        variable = keras.Variable(
            "zeros", shape, dtype, trainable=False, aggregation="mean", layout=layout, name=name
        )
    optimizer._track_variable(variable)
    return variable
