"""bfloat16, the upper half of a float32, which NumPy does not have."""

from __future__ import annotations

import numpy as np


def widened(bits: np.ndarray) -> np.ndarray:
    """The numbers, as float32, whose bfloat16 bits are in an array of uint16."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def narrowed(array: np.ndarray) -> np.ndarray:
    """The bits, as uint16, of the nearest bfloat16 numbers; of two, the even one."""
    bits = array.astype(np.float32).view(np.uint32)
    rounded = bits + 0x7FFF + ((bits >> 16) & 1)
    # Rounding could turn a NaN into an infinity: keep its upper half, as a quiet NaN.
    return np.where(np.isnan(array), (bits >> 16) | 0x40, rounded >> 16).astype(np.uint16)
