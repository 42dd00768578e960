"""The composed kernel in Keras: `do_conv.core.composition` in `keras.ops`, with gradients."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from do_conv.core import layouts
from do_conv.core.spec import SeparableSpec, Spec
from do_conv.core.starts import identity


def compose(kernel: Any, delta: Any, groups: int = 1) -> Any:
    """The composed kernel W' (equation 3 of the paper, kernel composition).

    Args:
        kernel: W, `(D_mul, C_in/groups, C_out)`, or `(*K, C_in/groups, C_out)` if D_mul = |K|.
        delta: D' = D - I, `(*K, C_in, D_mul)`, or None where |K| = 1.
        groups: G.

    Returns:
        W', `(*K, C_in/groups, C_out)`, in the dtype of `kernel`.

    Raises:
        DOConvError: if the shapes do not belong to one layer.
    """
    if delta is None:
        return kernel
    weight_shape = (kernel.shape[-1], kernel.shape[-2], *kernel.shape[:-2])
    delta_shape = (*delta.shape[-2:], *delta.shape[:-2])
    return compose_spec(kernel, delta, Spec.of_shapes(weight_shape, delta_shape, groups))


def compose_separable(kernel: Any, depthwise: Any, groups: int = 1) -> Any:
    """The one kernel of a depthwise separable convolution (section 3 of the paper).

    Args:
        kernel: W, `(D_mul, C_in/groups, C_out)`.
        depthwise: D, `(*K, C_in, D_mul)`, with any D_mul.
        groups: G, those of the pointwise convolution.

    Returns:
        W', `(*K, C_in/groups, C_out)`, in the dtype of `kernel`.

    Raises:
        DOConvError: if the shapes do not belong to one layer.
    """
    weight_shape = (kernel.shape[-1], kernel.shape[-2], *kernel.shape[:-2])
    depthwise_shape = (*depthwise.shape[-2:], *depthwise.shape[:-2])
    spec = SeparableSpec.of_shapes(weight_shape, depthwise_shape, groups)
    return compose_spec(kernel, depthwise, spec)


def compose_spec(kernel: Any, delta: Any, spec: Spec) -> Any:
    """`compose`, or `compose_separable`, for a layer that knows its sizes.

    `kernel` may be a depthwise layer's, too.
    """
    channels = (spec.group_channels, spec.groups, spec.group_rows)
    slots = ops.reshape(kernel, (spec.d_mul, *channels))
    matrices = ops.reshape(delta, (spec.area, spec.groups, spec.group_channels, spec.d_mul))
    change = _each_channel(
        ops.transpose(matrices, (1, 2, 0, 3)), ops.transpose(slots, (2, 1, 0, 3))
    )
    change = ops.transpose(change, (2, 1, 0, 3))
    shape = (*spec.kernel_size, spec.group_channels, spec.rows)
    if not spec.whole_blocks:
        return ops.reshape(change, shape)
    whole = ops.reshape(
        slots[: spec.whole_blocks * spec.area], (spec.whole_blocks, spec.area, *channels)
    )
    identity_part = whole[0] if spec.whole_blocks == 1 else ops.sum(whole, axis=0)
    return ops.reshape(identity_part + change, shape)


def _each_channel(matrices: Any, slots: Any) -> Any:
    """Matrices of `(|K|, D_mul)` by slots of `(D_mul, C_out/G)`, both `(G, C_in/G, ...)`."""
    if keras.backend.backend() == "tensorflow":
        return ops.matmul(matrices, slots)  # an einsum takes a third longer there
    # `ops.matmul` rounds float64 to float32 on torch.
    return ops.einsum("gcks,gcso->gcko", matrices, slots)


def depthwise_kernel(delta: Any, spec: Spec) -> Any:
    """D = I + D' as Keras's depthwise kernels, `(*K, C_in, D_mul)`."""
    channel = layouts.delta_to_keras(identity(spec)[None])
    return delta + ops.convert_to_tensor(channel, dtype=delta.dtype)


def pointwise_kernel(kernel: Any, spec: Spec) -> Any:
    """W as a grouped pointwise convolution's kernel, `(1, ..., C_in/G * D_mul, C_out)`."""
    slots = ops.reshape(kernel, (spec.d_mul, spec.group_channels, spec.rows))
    shape = (*[1] * spec.rank, spec.group_channels * spec.d_mul, spec.rows)
    return ops.reshape(ops.transpose(slots, (1, 0, 2)), shape)
