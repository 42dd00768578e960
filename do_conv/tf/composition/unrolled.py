"""The sums of composition written out, as XLA computes them fastest on a CPU: in one pass.

Small matrices XLA multiplies one after the other, once it has brought the channels in front.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from do_conv.tf.composition import batched

# The most terms of a sum over slots: with 25 the batched products are faster.
_MOST_SLOTS = 16
# How many sums over outputs go on beside each other: they fill a vector.
_WIDTHS = (16, 8)


def compose(matrices: Any, slots: Any, whole: Any) -> Any:
    """As `batched.compose`."""
    if not can_compose(slots):
        return batched.compose(matrices, slots, whole)
    columns = ops.expand_dims(ops.transpose(matrices, (3, 0, 2, 1)), -1)
    found = sum(columns[s] * slots[s] for s in range(slots.shape[0]))
    return found if whole is None else whole + found


def products(rows: Any, slots: Any) -> Any:
    """As `batched.products`."""
    width = width_for(rows)
    if not width:
        return batched.products(rows, slots)
    rows, slots = (ops.reshape(one, (*one.shape[:-1], -1, width)) for one in (rows, slots))
    rows, slots = ops.expand_dims(rows, 1), ops.expand_dims(slots, 0)
    sums = sum(rows[..., block, :] * slots[..., block, :] for block in range(rows.shape[-2]))
    return ops.transpose(ops.sum(sums, -1), (0, 3, 2, 1))


def can_compose(slots: Any) -> bool:
    """Whether the sum over slots is worth writing out."""
    return _is_wide(slots) and slots.shape[0] <= _MOST_SLOTS


def width_for(rows: Any) -> int | None:
    """How many outputs of each array are taken together, if the sum over them is written out."""
    return next((one for one in _WIDTHS if _is_wide(rows) and not rows.shape[-1] % one), None)


def _is_wide(array: Any) -> bool:
    """Whether partial sums may be rounded: in a narrow dtype the error would grow."""
    return keras.backend.standardize_dtype(array.dtype) in ("float32", "float64")
