"""Kernel composition: one ordinary kernel W' from W and D (section 3 of the paper).

An ordinary convolution (equation 1) is `O = W * P`, a depthwise one (equation 2) `O = D o P`.
DO-Conv (equation 3) is both, in either order of work:

    O = W * (D o P)        feature composition, see `features`
      = (D^T o W) * P      kernel composition, here

With W `(C_out, C_in/G, D_mul)` and D `(C_in, D_mul, *K)`, output channel o of group
`g = o // (C_out/G)` reads the input channels `i = g*(C_in/G) + c`, and

    W'[o, c, k] = sum_s W[o, c, s] * D[i, s, k]                                 (D^T o W)

A layer stores D' = D - I, so weight decay pulls D to the identity (section 4). The identity is
added and never multiplied, `W' = (sum of W's whole blocks) + W D'`: where D' is 0, W' is W to the
last bit in every precision, and a change of D too small to be seen beside 1 is not lost.
"""

from __future__ import annotations

import numpy as np

from do_conv.core import rules
from do_conv.core.spec import SeparableSpec, Spec


def compose(weight: np.ndarray, delta: np.ndarray | None, groups: int = 1) -> np.ndarray:
    """The composed kernel W' (equation 3, kernel composition).

    Args:
        weight: W, `(C_out, C_in/groups, D_mul)`, or `(C_out, C_in/groups, *K)` if D_mul = |K|.
        delta: D' = D - I, `(C_in, D_mul, *K)`, or None where |K| = 1 and there is no D.
        groups: G.

    Returns:
        W', `(C_out, C_in/groups, *K)`, what an ordinary convolution would hold.

    Raises:
        DOConvError: if the shapes do not belong to one layer.
    """
    if delta is None:
        return weight
    return compose_spec(weight, delta, Spec.of_shapes(weight.shape, delta.shape, groups))


def compose_separable(weight: np.ndarray, depthwise: np.ndarray, groups: int = 1) -> np.ndarray:
    """The one kernel of a depthwise separable convolution, `D^T o W` (section 3).

    Args:
        weight: W, the pointwise kernel, `(C_out, C_in/groups, D_mul)`.
        depthwise: D, the depthwise kernel, `(C_in, D_mul, *K)`, with any D_mul.
        groups: G, those of the pointwise convolution.

    Returns:
        W', `(C_out, C_in/groups, *K)`.

    Raises:
        DOConvError: if the shapes do not belong to one layer.
    """
    spec = SeparableSpec.of_shapes(weight.shape, depthwise.shape, groups)
    return compose_spec(weight, depthwise, spec)


def compose_spec(weight: np.ndarray, delta: np.ndarray, spec: Spec) -> np.ndarray:
    """`compose`, or `compose_separable`, for a layer whose sizes are known."""
    change = _per_input_channel(weight, spec) @ _matrices(delta, spec)
    return identity_part(weight, spec) + _per_output_channel(change, spec)


def kernel_change(weight: np.ndarray, delta: np.ndarray, groups: int = 1) -> np.ndarray:
    """|W' - W| at each kernel position, the mean over all channels, as shares of its largest.

    Figure 6 of the paper sums over the channels, and normalises each picture without saying how. A
    mean differs from a sum by a factor, which shares of the largest do not show; here 0 is always
    no change. Where D_mul is not |K|, W stands for the kernel that D = I gives.

    Args:
        weight: W, `(C_out, C_in/groups, D_mul)` or plain.
        delta: D', `(C_in, D_mul, *K)`.
        groups: G.

    Returns:
        an array of shape K in [0, 1]; zeros while D is the identity.
    """
    spec = Spec.of_shapes(weight.shape, delta.shape, groups)
    change = np.abs(compose_spec(weight, delta, spec) - identity_part(weight, spec)).mean((0, 1))
    largest = change.max()
    return change / largest if largest > 0 else change


def compose_gradients(
    grad: np.ndarray, weight: np.ndarray, delta: np.ndarray, groups: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """The gradients of a loss with respect to W and D', given `grad`, the one with respect to W'.

    Args:
        grad: dL/dW', `(C_out, C_in/groups, *K)`.
        weight, delta, groups: as for `compose`.

    Returns:
        dL/dW in the shape of `weight`, and dL/dD' in the shape of `delta`.
    """
    spec = Spec.of_shapes(weight.shape, delta.shape, groups)
    return compose_spec_gradients(grad, weight, delta, spec)


def compose_spec_gradients(
    grad: np.ndarray, weight: np.ndarray, delta: np.ndarray, spec: Spec
) -> tuple[np.ndarray, np.ndarray]:
    """`compose_gradients` for a layer whose sizes are known; without an identity, D' is D."""
    rules.array_shape("the gradient of the composed kernel", spec.composed_shape, grad.shape)
    grad_change = _per_input_channel(grad, spec)
    through_delta = grad_change @ _matrices(delta, spec).swapaxes(-1, -2)
    grad_weight = _per_output_channel(through_delta, spec).reshape(spec.weight_shape)
    grad_delta = _per_input_channel(weight, spec).swapaxes(-1, -2) @ grad_change
    return (
        (grad_weight + _spread(grad, spec)).reshape(weight.shape),
        grad_delta.reshape(delta.shape),
    )


def identity_part(weight: np.ndarray, spec: Spec) -> np.ndarray:
    """W I, what W' is while D is the identity: the sum of W's whole blocks, if there are any."""
    if spec.has_plain_weight:
        return weight.reshape(spec.composed_shape)
    whole = weight[:, :, : spec.whole_blocks * spec.area]
    blocks = whole.reshape(*whole.shape[:2], spec.whole_blocks, spec.area)
    return blocks.sum(axis=2).reshape(spec.composed_shape)


def fold(
    weight: np.ndarray, delta: np.ndarray | None, groups: int = 1, *, check_finite: bool = True
) -> np.ndarray:
    """The kernel to deploy: `compose`, refused if it holds NaN or infinity (section 3).

    Args:
        weight, delta, groups: as for `compose`.
        check_finite: False folds whatever is there.

    Returns:
        a new array W', `(C_out, C_in/groups, *K)`.

    Raises:
        DOConvError: if W' is not finite, or the shapes do not belong to one layer.
    """
    with np.errstate(invalid="ignore"):  # infinities are refused below instead of warned of
        composed = np.array(compose(weight, delta, groups))
    if check_finite:
        rules.finite("the composed kernel", bool(np.isfinite(composed).all()))
    return composed


def _per_input_channel(kernel: np.ndarray, spec: Spec) -> np.ndarray:
    """`(C_out, C_in/G, ...)` as a matrix per input channel: `(G, C_in/G, C_out/G, slots)`."""
    grouped = kernel.reshape(spec.groups, spec.group_rows, spec.group_channels, -1)
    return grouped.swapaxes(1, 2)


def _per_output_channel(matrices: np.ndarray, spec: Spec) -> np.ndarray:
    """The way back, to `(C_out, C_in/G, *K)`, or `(C_out, C_in/G, D_mul)` if it has those slots."""
    kernel = matrices.swapaxes(1, 2).reshape(spec.rows, spec.group_channels, -1)
    return kernel.reshape(spec.composed_shape) if kernel.shape[2] == spec.area else kernel


def _matrices(delta: np.ndarray, spec: Spec) -> np.ndarray:
    """D' as a matrix per input channel: `(G, C_in/G, D_mul, |K|)`."""
    return delta.reshape(spec.groups, spec.group_channels, spec.d_mul, spec.area)


def _spread(grad: np.ndarray, spec: Spec) -> np.ndarray:
    """The adjoint of `identity_part`: each whole block receives the gradient, the rest zero."""
    if spec.has_plain_weight:
        return grad
    flat = grad.reshape(spec.rows, spec.group_channels, spec.area)
    spread = np.zeros(spec.weight_shape, grad.dtype)
    spread[:, :, : spec.whole_blocks * spec.area] = np.tile(flat, spec.whole_blocks)
    return spread
