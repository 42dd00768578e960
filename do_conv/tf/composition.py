"""The composed kernel in Keras: `do_conv.core.composition` in `keras.ops`, with gradients."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from do_conv.core import layouts
from do_conv.core.spec import SeparableSpec, Spec
from do_conv.core.starts import identity

# The most slots that are summed one by one on jax: with 25 the einsum is faster.
_WRITTEN_OUT = 16


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
    change = _change(_matrices(delta, spec), slots)
    shape = (*spec.kernel_size, spec.group_channels, spec.rows)
    if not spec.whole_blocks:
        return ops.reshape(change, shape)
    whole = slots[: spec.whole_blocks * spec.area]
    if spec.whole_blocks > 1:
        whole = ops.sum(ops.reshape(whole, (spec.whole_blocks, spec.area, *channels)), axis=0)
    return ops.reshape(whole + change, shape)


def gradients(grad: Any, kernel: Any, delta: Any, spec: Spec) -> tuple[Any, Any]:
    """The gradients of a loss with respect to W and D', given `grad`, the one with respect to W'.

    Args:
        grad: dL/dW', in the shape of the plain layer's kernel.
        kernel, delta, spec: as for `compose_spec`.

    Returns:
        dL/dW in the shape of `kernel`, and dL/dD' in the shape of `delta`.
    """
    channels = (spec.group_channels, spec.groups, spec.group_rows)
    of_composed = ops.reshape(grad, (spec.area, *channels))
    change = _change(ops.transpose(_matrices(delta, spec), (3, 1, 2, 0)), of_composed)
    # The adjoint of the identity: each whole block receives the gradient.
    rest = spec.d_mul - spec.whole_blocks * spec.area
    spread = of_composed if spec.has_plain_weight else ops.pad(
        ops.tile(of_composed, (spec.whole_blocks, 1, 1, 1)), ((0, rest), (0, 0), (0, 0), (0, 0))
    )  # fmt: skip
    slots = ops.reshape(kernel, (spec.d_mul, *channels))
    of_delta = _products(of_composed, slots)
    return ops.reshape(spread + change, kernel.shape), ops.reshape(of_delta, delta.shape)


def _matrices(delta: Any, spec: Spec) -> Any:
    """D' as `(|K|, G, C_in/G, D_mul)`."""
    return ops.reshape(delta, (spec.area, spec.groups, spec.group_channels, spec.d_mul))


def _change(matrices: Any, slots: Any) -> Any:
    """The sums over s of `matrices[k, g, c, s] * slots[s, c, g, o]`, as `(k, c, g, o)`."""
    # In a narrow dtype each partial sum would be rounded.
    is_wide = keras.backend.standardize_dtype(slots.dtype) in ("float32", "float64")
    if keras.backend.backend() == "jax" and is_wide and slots.shape[0] <= _WRITTEN_OUT:
        from do_conv.tf.unrolled import composed_change

        return composed_change(matrices, slots)
    change = _each_channel(
        ops.transpose(matrices, (1, 2, 0, 3)), ops.transpose(slots, (2, 1, 0, 3))
    )
    return ops.transpose(change, (2, 1, 0, 3))


def _products(rows: Any, slots: Any) -> Any:
    """The sums over o of `rows[k, c, g, o] * slots[s, c, g, o]`, as `(k, g, c, s)`."""
    if keras.backend.backend() == "jax":
        return ops.einsum("kcgo,scgo->kgcs", rows, slots)  # faster here than with transposes
    products = _each_channel(ops.transpose(rows, (2, 1, 0, 3)), ops.transpose(slots, (2, 1, 3, 0)))
    return ops.transpose(products, (2, 0, 1, 3))


def _each_channel(one: Any, other: Any) -> Any:
    """The matrix products of two arrays `(G, C_in/G, ...)`, one for each input channel."""
    if keras.backend.backend() == "tensorflow":
        return ops.matmul(one, other)  # an einsum takes a third longer there
    # `ops.matmul` rounds float64 to float32 on torch.
    return ops.einsum("gcks,gcso->gcko", one, other)


def depthwise_kernel(delta: Any, spec: Spec) -> Any:
    """D = I + D' as Keras's depthwise kernels, `(*K, C_in, D_mul)`."""
    channel = layouts.delta_to_keras(identity(spec)[None])
    return delta + ops.convert_to_tensor(channel, dtype=delta.dtype)


def pointwise_kernel(kernel: Any, spec: Spec) -> Any:
    """W as a grouped pointwise convolution's kernel, `(1, ..., C_in/G * D_mul, C_out)`."""
    slots = ops.reshape(kernel, (spec.d_mul, spec.group_channels, spec.rows))
    shape = (*[1] * spec.rank, spec.group_channels * spec.d_mul, spec.rows)
    return ops.reshape(ops.transpose(slots, (1, 0, 2)), shape)
