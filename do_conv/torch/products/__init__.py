"""W (I + D'), the one costly step of a composition, as fast as can be.

formula.py      a matrix product for each input channel: anywhere, and what the others are held to
native.py       eager, on a CPU: loops in C, `native.c`
operators.py    compiled, on a CPU: the same loops
unrolled.py     compiled, elsewhere

All sum the same terms: the choice is of speed alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from do_conv.core.spec import Spec
from do_conv.torch.layout import laid_out_like
from do_conv.torch.products import formula, native, operators, unrolled


def composed_kernel(weight: Tensor, delta: Tensor, spec: Spec) -> Tensor:
    """W', `sum_s W[o, c, s] (I + D')[i, s, k]`; without I where no whole block of it fits.

    Args:
        weight: W, in its own shape.
        delta: D', `(C_in, D_mul, *K)`.
        spec: the sizes.

    Returns:
        `(C_out, C_in/G, *K)`, in the memory format of W, or of D' where W has no spatial axes;
        a compiler chooses its own.
    """
    composed = _way(weight, delta, spec)(weight, delta, spec)
    if spec.whole_blocks and not spec.has_plain_weight:
        whole = weight[:, :, : spec.whole_blocks * spec.area]
        composed = whole.unflatten(2, (spec.whole_blocks, *spec.kernel_size)).sum(2) + composed
    if torch.compiler.is_compiling():
        return composed
    return laid_out_like(composed, weight if spec.has_plain_weight else delta)


def _way(weight: Tensor, delta: Tensor, spec: Spec) -> Any:
    """What gives W D', and W + W D' if D_mul = |K|, where W I is W."""
    if torch.jit.is_tracing() or torch.compiler.is_exporting():
        return formula.composed  # a graph for elsewhere
    if torch.compiler.is_compiling():
        # `torch.func` takes no gradients through an operator that PyTorch does not know.
        is_transformed = torch._C._are_functorch_transforms_active()
        if native.pays(weight, delta, spec) and not is_transformed:
            return operators.composed
        is_narrow = max(spec.d_mul, spec.area) <= unrolled.WIDEST
        return (unrolled if is_narrow else formula).composed
    is_native = native.pays(weight, delta, spec) and not native.is_watched()
    return (native if is_native else formula).composed
