"""The written-out sums on JAX's CPU, with derivatives of every order that are as fast.

Of a sum that is written out, the gradient would add up arrays of all slots.
"""

from __future__ import annotations

from typing import Any

import jax
from jax import numpy as jnp

from do_conv.tf.composition import batched, unrolled

products = unrolled.products


def compose(matrices: Any, slots: Any, whole: Any) -> Any:
    """As `batched.compose`."""
    if not unrolled.can_compose(slots):
        return batched.compose(matrices, slots, whole)
    return _compose(matrices, slots, whole)


@jax.custom_jvp
def _compose(matrices: Any, slots: Any, whole: Any) -> Any:
    # In a loop of one turn, into which XLA does not look. A convolution's gradient reads the kernel
    # transposed: there XLA would sum once more, in an order that is ten times slower.
    shape = matrices.shape[0], *slots.shape[1:]
    first = jax.lax.optimization_barrier(True), jnp.zeros(shape, slots.dtype)
    return jax.lax.while_loop(
        lambda kept: kept[0],
        lambda _: (jnp.array(False), unrolled.compose(matrices, slots, whole)),
        first,
    )[1]


@_compose.defjvp
def _derivative(values: Any, changes: Any) -> tuple[Any, Any]:
    (matrices, slots, whole), (of_matrices, of_slots, of_whole) = values, changes
    by_slots = jnp.sum(jnp.transpose(matrices, (0, 3, 2, 1))[..., None] * of_slots, axis=1)
    change = _by_matrices(of_matrices, slots) + by_slots
    return _compose(matrices, slots, whole), change if whole is None else change + of_whole


def _by_matrices(matrices: Any, slots: Any) -> Any:
    """The sums, in the form whose transpose JAX makes as `unrolled.products`."""
    width = unrolled.width_for(slots)
    if not width:
        return batched.compose(matrices, slots, None)
    columns = jnp.transpose(matrices, (0, 3, 2, 1))[..., None]
    columns = jnp.broadcast_to(columns, (*columns.shape[:-1], width))
    blocks = jnp.split(slots, slots.shape[-1] // width, axis=-1)
    return jnp.concatenate([jnp.sum(columns * block, axis=1) for block in blocks], axis=-1)
