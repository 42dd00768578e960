"""The sums of composition as batched products of matrices, one for each input channel."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


def compose(matrices: Any, slots: Any, whole: Any) -> Any:
    """`whole`, and the sums over s of `matrices[k, g, c, s] * slots[s, c, g, o]`.

    Args:
        matrices: `(K, G, C, S)`.
        slots: `(S, C, G, O)`.
        whole: `(K, C, G, O)`, or None.

    Returns:
        `(K, C, G, O)`.
    """
    found = _each_channel(ops.transpose(matrices, (1, 2, 0, 3)), ops.transpose(slots, (2, 1, 0, 3)))
    found = ops.transpose(found, (2, 1, 0, 3))
    return found if whole is None else whole + found


def products(rows: Any, slots: Any) -> Any:
    """The sums over o of `rows[k, c, g, o] * slots[s, c, g, o]`.

    Args:
        rows: `(K, C, G, O)`.
        slots: `(S, C, G, O)`.

    Returns:
        `(K, G, C, S)`.
    """
    if keras.backend.backend() == "jax":
        return ops.einsum("kcgo,scgo->kgcs", rows, slots)  # faster here than with transposes
    found = _each_channel(ops.transpose(rows, (2, 1, 0, 3)), ops.transpose(slots, (2, 1, 3, 0)))
    return ops.transpose(found, (2, 0, 1, 3))


def _each_channel(one: Any, other: Any) -> Any:
    """The matrix products of two arrays `(G, C, ...)`."""
    if keras.backend.backend() == "tensorflow":
        return ops.matmul(one, other)  # an einsum takes a third longer there
    # `ops.matmul` rounds float64 to float32 on torch.
    return ops.einsum("gcks,gcso->gcko", one, other)
