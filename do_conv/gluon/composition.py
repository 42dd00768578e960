"""The composed kernel in MXNet: `do_conv.core.composition` on NDArrays and Symbols, with gradients.

`F` is `mxnet.nd` or `mxnet.sym`. Reshapes are written in MXNet's codes (0 keeps an axis, -3 joins
two, -4 splits one), so that they hold in a graph whose input channels are not known yet.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import mxnet as mx

from do_conv.core.spec import SeparableSpec, Spec


def compose(weight: Any, delta: Any, groups: int = 1) -> Any:
    """The composed kernel W' (equation 3 of the paper, kernel composition).

    Args:
        weight: W, `(C_out, C_in/groups, D_mul)`, or `(C_out, C_in/groups, *K)` if D_mul = |K|.
        delta: D' = D - I, `(C_in, D_mul, *K)`, or None where |K| = 1.
        groups: G.

    Returns:
        W', `(C_out, C_in/groups, *K)`, in the dtype and context of `weight`.

    Raises:
        DOConvError: if the shapes do not belong to one layer.
    """
    if delta is None:
        return weight
    return compose_spec(mx.nd, weight, delta, Spec.of_shapes(weight.shape, delta.shape, groups))


def compose_separable(weight: Any, depthwise: Any, groups: int = 1) -> Any:
    """The one kernel of a depthwise separable convolution (section 3 of the paper).

    Args:
        weight: W, the pointwise kernel, `(C_out, C_in/groups, D_mul)`.
        depthwise: D, the depthwise kernel, `(C_in, D_mul, *K)`, with any D_mul.
        groups: G, those of the pointwise convolution.

    Returns:
        W', `(C_out, C_in/groups, *K)`, in the dtype and context of `weight`.

    Raises:
        DOConvError: if the shapes do not belong to one layer.
    """
    spec = SeparableSpec.of_shapes(weight.shape, depthwise.shape, groups)
    return compose_spec(mx.nd, weight, depthwise, spec)


def compose_spec(F: Any, weight: Any, delta: Any, spec: Spec) -> Any:  # noqa: N803
    """`compose`, or `compose_separable`, for a layer that may not know its input channels yet."""
    if isinstance(weight, mx.nd.NDArray):
        return _graph(spec)(weight, delta)
    slots = F.reshape(weight, shape=(0, 0, -1))
    change = F.batch_dot(_turned(F, slots, spec), F.reshape(delta, shape=(0, 0, -1)))
    composed = _turned(F, change, spec)
    if spec.whole_blocks:
        composed = F.elemwise_add(_identity_part(F, slots, spec), composed)
    return F.reshape(composed, shape=(0, 0, *spec.kernel_size))


@cache
def _graph(spec: Spec) -> Any:
    """For arrays: outside of a graph each reshape is a copy, and so is its gradient."""
    kernel = compose_spec(mx.sym, mx.sym.var("weight"), mx.sym.var("delta"), spec)
    return mx.nd.CachedOp(kernel)


def compose_spec_gradients(grad: Any, weight: Any, delta: Any, spec: Spec) -> tuple[Any, Any]:
    """The gradients of W and D', given that of W', on arrays; as `core.composition` has it."""
    # A graph lists its arrays in the order in which they are used.
    of_weight, of_delta = _gradient_graph(spec)(grad, delta, weight)
    return of_weight, of_delta


@cache
def _gradient_graph(spec: Spec) -> Any:
    sym = mx.sym
    names = ("grad", "delta", "weight")
    grad, delta, weight = (sym.reshape(sym.var(name), shape=(0, 0, -1)) for name in names)
    of_composed = _turned(sym, grad, spec)
    through_delta = _turned(sym, sym.batch_dot(of_composed, delta, transpose_b=True), spec)
    of_weight = sym.elemwise_add(_spread_over_slots(sym, grad, spec), through_delta)
    of_delta = sym.batch_dot(_turned(sym, weight, spec), of_composed, transpose_a=True)
    shapes = spec.weight_shape, spec.delta_shape
    shaped = [sym.reshape(*one) for one in zip((of_weight, of_delta), shapes, strict=True)]
    return mx.nd.CachedOp(sym.Group(shaped))


def _spread_over_slots(F: Any, grad: Any, spec: Spec) -> Any:  # noqa: N803
    """The adjoint of `_identity_part`: each whole block receives the gradient, the rest zero."""
    if spec.has_plain_weight:
        return grad
    blocks = [grad] * spec.whole_blocks
    rest = spec.d_mul - spec.whole_blocks * spec.area
    if rest:
        blocks.append(F.zeros_like(F.slice_axis(grad, axis=2, begin=0, end=rest)))
    return F.concat(*blocks, dim=2)


def _turned(F: Any, kernels: Any, spec: Spec) -> Any:  # noqa: N803
    """`(C_in, C_out/G, slots)` of `(C_out, C_in/G, slots)`, and back."""
    grouped = F.reshape(kernels, shape=(-4, spec.groups, -1, 0, 0))
    return F.reshape(F.transpose(grouped, axes=(0, 2, 1, 3)), shape=(-3, 0, 0))


def depthwise_kernel(F: Any, delta: Any, spec: Spec, dtype: Any) -> Any:  # noqa: N803
    """D = I + D' as a depthwise convolution's kernel, `(C_in * D_mul, 1, *K)`."""
    if not spec.whole_blocks:
        return F.reshape(delta, shape=(-3, 1, *spec.kernel_size))
    # The core's identity, in operators: a Symbol cannot hold an array. Slots after the last whole
    # block get a position out of range, for which `one_hot` gives zeros.
    slot = F.arange(spec.d_mul)
    position = slot % spec.area + spec.area * (slot >= spec.whole_blocks * spec.area)
    identity = F.one_hot(position, depth=spec.area, dtype=dtype)
    identity = F.reshape(identity, shape=(1, spec.d_mul, *spec.kernel_size))
    return F.reshape(F.broadcast_add(delta, identity), shape=(-3, 1, *spec.kernel_size))


def pointwise_kernel(F: Any, weight: Any, spec: Spec) -> Any:  # noqa: N803
    """W as a grouped pointwise convolution's kernel, `(C_out, C_in/G * D_mul, 1, ...)`."""
    return F.reshape(weight, shape=(0, -1, *[1] * spec.rank))


def _identity_part(F: Any, slots: Any, spec: Spec) -> Any:  # noqa: N803
    """W I, `(C_out, C_in/G, |K|)`: the sum of W's whole blocks."""
    if spec.has_plain_weight:
        return slots
    whole = F.slice_axis(slots, axis=2, begin=0, end=spec.whole_blocks * spec.area)
    return F.sum(F.reshape(whole, shape=(0, 0, spec.whole_blocks, spec.area)), axis=2)


def with_shapes_from(F: Any, x: Any, weight: Any, delta: Any, spec: Spec) -> tuple[Any, Any]:  # noqa: N803
    """W and D', plus zeros through which MXNet infers their shapes from the input of a graph.

    MXNet infers a parameter's shape backwards from the operator it feeds: `elemwise_add` can,
    `batch_dot` cannot. The zeros bring the input's channels to them.
    """
    corner = F.slice(x, begin=(0, None, *[0] * spec.rank), end=(1, None, *[1] * spec.rank))
    channels = F.reshape(F.zeros_like(corner), shape=(1, -1, 1))
    if spec.transposed:  # D' belongs to the output channels, which are known
        return F.elemwise_add(weight, _spread(F, channels, spec.weight_shape)), delta
    per_group = F.reshape(channels, shape=(0, -4, spec.groups, -1, 0))
    group = F.slice_axis(per_group, axis=1, begin=0, end=1)
    return (
        F.elemwise_add(weight, _spread(F, group, spec.weight_shape)),
        F.elemwise_add(delta, _spread(F, channels, spec.delta_shape)),
    )


def _spread(F: Any, zeros: Any, shape: tuple[Any, ...]) -> Any:  # noqa: N803
    """Zeros whose only known axis is the channels', None in `shape`, broadcast to that shape."""
    axis = shape.index(None)
    flat = F.reshape(zeros, shape=tuple(-1 if i == axis else 1 for i in range(len(shape))))
    axes = tuple(i for i in range(len(shape)) if i != axis)
    return F.broadcast_axis(flat, axis=axes, size=tuple(shape[i] for i in axes))
