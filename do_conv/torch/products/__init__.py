"""W (I + D'), the one costly step of a composition, as fast as can be.

formula.py    a matrix product for each input channel: for graphs, and what the others are held to
blocks.py     eager mode, for large layers with small kernels
unrolled.py   compiled

All sum the same terms: the choice is of speed alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from do_conv.core.spec import Spec
from do_conv.torch.products import blocks, formula, unrolled


def composed_kernel(weight: Tensor, delta: Tensor, spec: Spec) -> Tensor:
    """W', `sum_s W[o, c, s] (I + D')[i, s, k]`; without I where no whole block of it fits.

    Args:
        weight: W, in its own shape.
        delta: D', `(C_in, D_mul, *K)`.
        spec: the sizes.

    Returns:
        `(C_out, C_in/G, *K)`, in W's memory format if D_mul = |K| and nothing is compiled.
    """
    composed = _way(weight, delta, spec)(weight, delta, spec)
    if spec.has_plain_weight or not spec.whole_blocks:
        return composed
    whole = weight[:, :, : spec.whole_blocks * spec.area]
    return whole.unflatten(2, (spec.whole_blocks, *spec.kernel_size)).sum(2) + composed


def _way(weight: Tensor, delta: Tensor, spec: Spec) -> Any:
    """What gives W D', and W + W D' if D_mul = |K|, where W I is W."""
    if torch.jit.is_tracing() or torch.compiler.is_exporting():
        return formula.composed  # a graph for elsewhere
    if torch.compiler.is_compiling():
        is_narrow = max(spec.d_mul, spec.area) <= unrolled.WIDEST
        return (unrolled if is_narrow else formula).composed
    # Other kinds stand for several tensors, or for none, and cannot be written to.
    are_plain = all(type(one) in (Tensor, nn.Parameter) for one in (weight, delta))
    return (blocks if are_plain and blocks.pays(spec) else formula).composed
