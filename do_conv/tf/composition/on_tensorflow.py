"""The written-out sums on TensorFlow's CPU where XLA compiles them, with gradients as fast."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from do_conv.tf.composition import batched, unrolled

try:  # names that are not public, which another version may not have
    from tensorflow.compiler.tf2xla.python.xla import optimization_barrier
    from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext
except ImportError:
    GraphOrParentsInXlaContext = None

products = unrolled.products


def is_compiled() -> bool:
    """Whether a function is being traced for XLA."""
    graph = tf.compat.v1.get_default_graph()
    return GraphOrParentsInXlaContext is not None and GraphOrParentsInXlaContext(graph)


def compose(matrices: Any, slots: Any, whole: Any) -> Any:
    """As `batched.compose`."""
    if not unrolled.can_compose(slots):
        return batched.compose(matrices, slots, whole)
    return _compose(matrices, slots, *([] if whole is None else [whole]))


@tf.custom_gradient
def _compose(matrices: Any, slots: Any, *whole: Any) -> Any:
    def gradients(grad: Any) -> tuple[Any, ...]:
        of_slots = compose(tf.transpose(matrices, (3, 1, 2, 0)), grad, None)
        return products(grad, slots), of_slots, *([grad] * len(whole))

    # In a branch that is always taken, into which XLA does not look. A convolution's gradient reads
    # the kernel transposed: there XLA would sum once more, in an order that is ten times slower.
    shape = matrices.shape[0], *slots.shape[1:]
    composed = tf.cond(
        optimization_barrier(tf.constant(True))[0],
        lambda: unrolled.compose(matrices, slots, *(whole or [None])),
        lambda: tf.zeros(shape, slots.dtype),
    )
    return composed, gradients
