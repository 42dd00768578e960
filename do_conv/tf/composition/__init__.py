"""The composed kernel in Keras: `do_conv.core.composition` in `keras.ops`, with gradients.

All arithmetic is in two functions, `compose` and `products`. A module has them in one form:

batched        products of matrices: the usual form
unrolled       written out: the faster form on a CPU, where XLA compiles it
on_jax         the same, with derivatives as fast
on_tensorflow  the same, with gradients as fast
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from do_conv.core import layouts
from do_conv.core.spec import SeparableSpec, Spec
from do_conv.core.starts import identity
from do_conv.tf.composition import batched


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


def compose_spec(kernel: Any, delta: Any, spec: Spec, sums: Any = None) -> Any:
    """`compose`, or `compose_separable`, for a layer that knows its sizes.

    `kernel` may be a depthwise layer's, too. `sums` is one of the modules here; None is the one
    that is fastest in a layer.
    """
    channels = (spec.group_channels, spec.groups, spec.group_rows)
    slots = ops.reshape(kernel, (spec.d_mul, *channels))
    whole = slots[: spec.whole_blocks * spec.area] if spec.whole_blocks else None
    if spec.whole_blocks > 1:
        whole = ops.sum(ops.reshape(whole, (spec.whole_blocks, spec.area, *channels)), axis=0)
    composed = (sums or _in_layers()).compose(_matrices(delta, spec), slots, whole)
    return ops.reshape(composed, (*spec.kernel_size, spec.group_channels, spec.rows))


def gradients(grad: Any, kernel: Any, delta: Any, spec: Spec, sums: Any = None) -> tuple[Any, Any]:
    """The gradients of a loss with respect to W and D', given `grad`, the one with respect to W'.

    Args:
        grad: dL/dW', in the shape of the plain layer's kernel.
        kernel, delta, spec, sums: as for `compose_spec`.

    Returns:
        dL/dW in the shape of `kernel`, and dL/dD' in the shape of `delta`.
    """
    channels = (spec.group_channels, spec.groups, spec.group_rows)
    of_composed = ops.reshape(grad, (spec.area, *channels))
    sums = sums or _in_layers()
    transposed = ops.transpose(_matrices(delta, spec), (3, 1, 2, 0))
    # The adjoint of the identity: each whole block receives the gradient.
    rest = spec.d_mul - spec.whole_blocks * spec.area
    spread = of_composed if spec.has_plain_weight else ops.pad(
        ops.tile(of_composed, (spec.whole_blocks, 1, 1, 1)), ((0, rest), (0, 0), (0, 0), (0, 0))
    )  # fmt: skip
    slots = ops.reshape(kernel, (spec.d_mul, *channels))
    of_delta = sums.products(of_composed, slots)
    of_slots = sums.compose(transposed, of_composed, spread)
    return ops.reshape(of_slots, kernel.shape), ops.reshape(of_delta, delta.shape)


def _matrices(delta: Any, spec: Spec) -> Any:
    """D' as `(|K|, G, C_in/G, D_mul)`."""
    return ops.reshape(delta, (spec.area, spec.groups, spec.group_channels, spec.d_mul))


def _in_layers() -> Any:
    """The module whose sums are fastest in a layer, which has to be differentiated."""
    if xla_is_on_cpu():
        if keras.backend.backend() == "jax":
            from do_conv.tf.composition import on_jax

            return on_jax
        from do_conv.tf.composition import on_tensorflow

        if on_tensorflow.is_compiled():
            return on_tensorflow
    return batched


def xla_is_on_cpu() -> bool:
    """Whether the backend is one that XLA compiles for, and computes on a CPU."""
    if keras.backend.backend() == "jax":
        import jax

        return bool(jax.default_backend() == "cpu")
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return all(one.device_type == "CPU" for one in tf.config.list_logical_devices())
    return False


def depthwise_kernel(delta: Any, spec: Spec) -> Any:
    """D = I + D' as Keras's depthwise kernels, `(*K, C_in, D_mul)`."""
    channel = layouts.delta_to_keras(identity(spec)[None])
    return delta + ops.convert_to_tensor(channel, dtype=delta.dtype)


def pointwise_kernel(kernel: Any, spec: Spec) -> Any:
    """W as a grouped pointwise convolution's kernel, `(1, ..., C_in/G * D_mul, C_out)`."""
    slots = ops.reshape(kernel, (spec.d_mul, spec.group_channels, spec.rows))
    shape = (*[1] * spec.rank, spec.group_channels * spec.d_mul, spec.rows)
    return ops.reshape(ops.transpose(slots, (1, 0, 2)), shape)
