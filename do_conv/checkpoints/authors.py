"""Convert the original authors' arrays to W and D', in the core's order of axes.

Their D is D' already, and is added to an identity. Where their order of work is not the paper's, no
D gives their kernel, and only the kernel can be imported: W = W' and D' = 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from do_conv.core.composition import compose_separable
from do_conv.core.spec import Shape, Spec
from do_conv.core.starts import fill_from_kernel, identity

FOLDED_GROUPS = (
    "folded in the authors' order, D' is zero: with several groups of several outputs each, their "
    "PyTorch layer pairs outputs with the D of other groups than the paper"
)
FOLDED_SLOTS = (
    "folded, D' is zero: its D_mul was below the number of kernel positions, which it is now"
)
TRAINED_DIAGONAL = "its d_diag (D_diag) was not the identity; the difference is in D'"
FOLDED = "without a D, and W has four axes: taken as a folded layer of the authors'"
POINTWISE = "without a D: taken as the authors' layer with a 1 x 1 kernel"
REORDERED = "exact, with the rows of D in the paper's order: the authors' code counts groups last"


@dataclass(frozen=True)
class Imported:
    """W and D' of one layer.

    Attributes:
        weight: W, `(C_out, C_in/G, *K)`, or `(C_out, C_in/G, D_mul)` if D_mul is not |K|.
        delta: D', `(C_in, D_mul, *K)`; None for a plain layer.
        spec: the layer's sizes.
        note: a sentence for a person, or "".
    """

    weight: np.ndarray
    delta: np.ndarray | None
    spec: Spec
    note: str = ""


def from_torch(
    weight: np.ndarray, depthwise: np.ndarray, diagonal: np.ndarray | None, kernel_size: Shape
) -> Imported:
    """A layer of their PyTorch code.

    Args:
        weight: their W, `(C_out, C_in/G, D_mul)`.
        depthwise: their D, `(C_in, |K|, D_mul)`.
        diagonal: their `d_diag`, of the same shape; None is the identity.
        kernel_size: K.
    """
    groups = depthwise.shape[0] // weight.shape[1]
    follows = not 1 < groups < weight.shape[0]
    return _imported(weight, depthwise, diagonal, kernel_size, follows_paper=follows)


def from_tensorflow(
    weight: np.ndarray, depthwise: np.ndarray, diagonal: np.ndarray | None, kernel_size: Shape
) -> Imported:
    """A layer of their TensorFlow or Gluon code, with the axes of their PyTorch code.

    Args:
        weight: their kernel, `(C_out, C_in/G, D_mul)`.
        depthwise: their D, `(C_in, |K|, D_mul)`; its row `c*G + j` is channel c of group j.
        diagonal: their `D_diag`, of the same shape; None is the identity.
        kernel_size: K.
    """
    groups = depthwise.shape[0] // weight.shape[1]
    note = REORDERED if groups > 1 and weight.shape[1] > 1 else ""
    diagonal = None if diagonal is None else _by_group(diagonal, groups)
    return _imported(weight, _by_group(depthwise, groups), diagonal, kernel_size, note)


def without_depthwise(weight: np.ndarray, rank: int = 2) -> Imported:
    """A layer without a D: a plain layer under another name.

    Args:
        weight: `(C_out, C_in/G, 1)` of a layer with a 1 x 1 kernel, or the kernel
            `(C_out, C_in/G, *K)` of a folded one.
        rank: the number of the kernel's axes; a folded one has its own.
    """
    is_folded = weight.ndim > 3
    kernel = weight if is_folded else weight.reshape(*weight.shape[:2], *(1,) * rank)
    # The number of groups is not stored; the sizes are those of one group.
    spec = Spec(kernel.shape[1], kernel.shape[0], kernel.shape[2:])
    return Imported(kernel, None, spec, FOLDED if is_folded else POINTWISE)


def _by_group(depthwise: np.ndarray, groups: int) -> np.ndarray:
    """The rows of `(C_in, |K|, D_mul)` from row `c*G + j` to row `j*(C_in/G) + c`."""
    split = depthwise.reshape(-1, groups, *depthwise.shape[1:])
    return split.swapaxes(0, 1).reshape(depthwise.shape)


def _imported(
    weight: np.ndarray,
    depthwise: np.ndarray,
    diagonal: np.ndarray | None,
    kernel_size: Shape,
    note: str = "",
    *,
    follows_paper: bool = True,
) -> Imported:
    """W `(C_out, C_in/G, D_mul)` and their D and diagonal `(C_in, |K|, D_mul)` as ours."""
    (channels, area, slots), outputs = depthwise.shape, weight.shape[0]
    groups = channels // weight.shape[1]
    spec = Spec(channels, outputs, kernel_size, groups, max(slots, area))
    if slots < area:
        total = depthwise if diagonal is None else depthwise + diagonal
        kernel = _composed(weight, total, groups, follows_paper)
        return _folded(kernel, weight[:, :, :0], spec, FOLDED_SLOTS)
    ones = identity(spec).reshape(slots, area).T
    change = np.zeros_like(ones) if diagonal is None else diagonal - ones
    if not follows_paper:
        kernel = _composed(weight, depthwise + (ones + change), groups, follows_paper)
        tail = weight[:, :, spec.whole_blocks * area :]
        return _folded(kernel, tail, spec, FOLDED_GROUPS)
    delta = (depthwise + change).astype(depthwise.dtype).swapaxes(1, 2).reshape(spec.delta_shape)
    if change.any():
        note = TRAINED_DIAGONAL
    return Imported(weight.reshape(spec.weight_shape), delta, spec, note)


def _composed(
    weight: np.ndarray, total: np.ndarray, groups: int, follows_paper: bool
) -> np.ndarray:
    """The kernel `(C_out, C_in/G, |K|)` of W and the whole D `(C_in, |K|, D_mul)`."""
    if follows_paper:
        return compose_separable(weight, total.swapaxes(1, 2), groups)
    # In the authors' layers output o reads the D of group o % G, not of its own group.
    by_output = weight.reshape(-1, total.shape[0], weight.shape[2])
    return np.einsum("ims,ois->oim", total, by_output).reshape(*weight.shape[:2], -1)


def _folded(kernel: np.ndarray, tail: np.ndarray, spec: Spec, note: str) -> Imported:
    """A layer whose D is the identity: the kernel is W's first block, and other blocks are zero.

    `tail` is what W holds after its last whole block, which does nothing yet and can be trained.
    """
    weight = np.empty((*kernel.shape[:2], spec.d_mul), kernel.dtype)
    weight[:, :, spec.whole_blocks * spec.area :] = tail
    fill_from_kernel(weight, kernel, spec)
    delta = np.zeros(spec.delta_shape, kernel.dtype)
    return Imported(weight.reshape(spec.weight_shape), delta, spec, note)
