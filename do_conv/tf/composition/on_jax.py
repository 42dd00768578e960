"""The written-out sums on JAX's CPU, with derivatives of every order that are as fast.

Of a sum that is written out, the gradient would add up arrays of all slots.
"""

from __future__ import annotations

from typing import Any

import jax
from jax import numpy as jnp

from do_conv.tf.composition import batched, unrolled

products = unrolled.products


def change(matrices: Any, slots: Any) -> Any:
    """As `batched.change`."""
    if not unrolled.can_change(slots):
        return batched.change(matrices, slots)
    return _change(matrices, slots)


_change = jax.custom_jvp(unrolled.change)


@_change.defjvp
def _derivative(values: Any, changes: Any) -> tuple[Any, Any]:
    (matrices, slots), (of_matrices, of_slots) = values, changes
    by_slots = jnp.sum(jnp.transpose(matrices, (0, 3, 2, 1))[..., None] * of_slots, axis=1)
    return _change(matrices, slots), _by_matrices(of_matrices, slots) + by_slots


def _by_matrices(matrices: Any, slots: Any) -> Any:
    """The change again, in the form of which JAX makes `unrolled.products` as the transpose."""
    width = unrolled.width_for(slots)
    if not width:
        return batched.change(matrices, slots)
    columns = jnp.transpose(matrices, (0, 3, 2, 1))[..., None]
    columns = jnp.broadcast_to(columns, (*columns.shape[:-1], width))
    blocks = jnp.split(slots, slots.shape[-1] // width, axis=-1)
    return jnp.concatenate([jnp.sum(columns * block, axis=1) for block in blocks], axis=-1)
