"""Arrays under `mx.npx.set_np()`: MXNet's operators take those without NumPy's behaviour only.

Both kinds wrap the same memory, and neither way of conversion breaks a gradient.
"""

from __future__ import annotations

from typing import Any

import mxnet as mx


def legacy_arrays(*arrays: Any) -> tuple[Any, ...]:
    """The arrays (or Symbols, or None) as MXNet's operators take them."""
    if not mx.util.is_np_array():
        return arrays
    return tuple(None if array is None else array.as_nd_ndarray() for array in arrays)


def as_given(array: Any) -> Any:
    """An operator's result in the kind that the person works with."""
    return array.as_np_ndarray() if mx.util.is_np_array() else array
