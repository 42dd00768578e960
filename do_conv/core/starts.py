"""The identity that is added to D', and the distribution D' starts from (Table 7 of the paper)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from do_conv.core import rules
from do_conv.core.spec import Spec


def identity(spec: Spec) -> np.ndarray:
    """One channel's identity I, `(D_mul, *K)`: whole identity blocks, then zeros.

    `I[s, k] = 1` where `s mod |K| == k` and `s < |K| * (D_mul // |K|)`, k being the flat position.
    With D = I the layer is the plain one (section 4). A separable pair has none: it is zero.
    """
    blocks = np.zeros((spec.d_mul, spec.area))
    slots = np.arange(spec.whole_blocks * spec.area)
    blocks[slots, slots % spec.area] = 1
    return blocks.reshape(spec.d_mul, *spec.kernel_size)


@dataclass(frozen=True)
class Normal:
    """A normal distribution: `mean` broadcasts over the channels of D', `std` is one number."""

    mean: np.ndarray
    std: float


def delta_start(name: str, spec: Spec) -> Normal:
    """The distribution that a framework draws D' from at the start.

    Args:
        name: "identity" (D = I, so D' is exactly 0) or "he" (D normal with standard deviation
            `sqrt(2/|K|)`, stored as D' = D - I).
        spec: the layer's sizes.

    Returns:
        the distribution of D', its mean of shape `(D_mul, *K)`.

    Raises:
        DOConvError: if there is no start of that name.
    """
    if rules.depthwise_init(name) == "identity":
        return Normal(np.zeros((spec.d_mul, *spec.kernel_size)), 0.0)
    return Normal(-identity(spec), math.sqrt(2 / spec.area))


def fill_from_kernel(weight: Any, kernel: Any, spec: Spec) -> None:
    """Make W compose to a plain kernel while D is the identity, in place.

    The kernel becomes W's first block, and its further whole blocks are zero. Slots after the last
    whole block stay as they were drawn: D is zero there, and zeros on zeros would never train.

    Args:
        weight: W, `(C_out, C_in/G, D_mul)`, a NumPy array or a framework's, with drawn slots.
        kernel: `(C_out, C_in/G, *K)`.
        spec: the layer's sizes, of which D_mul is not |K|.
    """
    weight[:, :, : spec.whole_blocks * spec.area] = 0
    weight[:, :, : spec.area] = kernel.reshape((*weight.shape[:2], spec.area))
