"""The written-out sums on TensorFlow's CPU where XLA compiles them, with gradients as fast."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow.python.ops import control_flow_util

from do_conv.tf.composition import batched, unrolled

products = unrolled.products


def is_compiled() -> bool:
    """Whether a function is traced for XLA, which no public name tells, and no GPU will run it."""
    graph = tf.compat.v1.get_default_graph()
    is_xla = control_flow_util.GraphOrParentsInXlaContext(graph)
    return is_xla and not tf.config.list_logical_devices("GPU")


def change(matrices: Any, slots: Any) -> Any:
    """As `batched.change`."""
    if not unrolled.can_change(slots):
        return batched.change(matrices, slots)
    return _change(matrices, slots)


@tf.custom_gradient
def _change(matrices: Any, slots: Any) -> Any:
    def gradients(grad: Any) -> tuple[Any, Any]:
        return products(grad, slots), change(tf.transpose(matrices, (3, 1, 2, 0)), grad)

    return unrolled.change(matrices, slots), gradients
