"""The composed kernel in PyTorch: `do_conv.core.composition` on tensors, with gradients.

One product is costly, W D', and there are four ways to it, chosen for their speed alone:

formula     anywhere: a matrix product for each input channel, which the rest must equal
loops       eager, on a CPU: loops in C
operators   compiled, on a CPU: the same loops
unrolled    compiled, elsewhere
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import Proxy
from torch.nn import functional

from do_conv.core import rules
from do_conv.core.spec import SeparableSpec, Spec
from do_conv.torch.composition import formula, loops, operators, unrolled
from do_conv.torch.layout import channels_last, is_channels_last, laid_out_like


def compose(weight: Tensor, delta: Tensor | None, groups: int = 1) -> Tensor:
    """The composed kernel W' (equation 3 of the paper, kernel composition).

    Args:
        weight: W, `(C_out, C_in/groups, D_mul)`, or `(C_out, C_in/groups, *K)` if D_mul = |K|.
        delta: D' = D - I, `(C_in, D_mul, *K)`, or None where |K| = 1.
        groups: G.

    Returns:
        W', `(C_out, C_in/groups, *K)`, with `weight`'s dtype, device and memory format; under
        autocast too, so that the kernel is rounded once, by the convolution.

    Raises:
        DOConvError: if the shapes do not belong to one layer.
    """
    if delta is None:
        return weight
    return compose_spec(weight, delta, Spec.of_shapes(weight.shape, delta.shape, groups))


def compose_separable(weight: Tensor, depthwise: Tensor, groups: int = 1) -> Tensor:
    """The one kernel of a depthwise separable convolution (section 3 of the paper).

    Args:
        weight: W, the pointwise kernel, `(C_out, C_in/groups, D_mul)`.
        depthwise: D, the depthwise kernel, `(C_in, D_mul, *K)`, with any D_mul.
        groups: G, those of the pointwise convolution.

    Returns:
        W', `(C_out, C_in/groups, *K)`, as `compose` gives it.

    Raises:
        DOConvError: if the shapes do not belong to one layer.
    """
    spec = SeparableSpec.of_shapes(weight.shape, depthwise.shape, groups)
    return compose_spec(weight, depthwise, spec)


def compose_spec(weight: Tensor, delta: Tensor, spec: Spec) -> Tensor:
    """`compose`, or `compose_separable`, for a layer that knows its sizes."""
    if isinstance(weight, Proxy):
        return _node(
            compose if spec.whole_blocks else compose_separable, weight, delta, spec.groups
        )
    if weight.dim() != len(spec.weight_shape):  # `compose` takes two shapes
        weight = weight.reshape(spec.weight_shape)
    if not torch.jit.is_tracing():  # a tracer has tensors in the place of sizes
        # The loops in C would read and write past the end of others.
        rules.array_shape("W", spec.weight_shape, weight.shape)
        rules.array_shape("D'", spec.delta_shape, delta.shape)
    with without_autocast(weight):
        composed = _implementation(weight, delta, spec)(weight, delta, spec)
    if spec.whole_blocks and not spec.has_plain_weight:
        whole = weight[:, :, : spec.whole_blocks * spec.area]
        composed = whole.unflatten(2, (spec.whole_blocks, *spec.kernel_size)).sum(2) + composed
    if torch.compiler.is_compiling():  # a compiler chooses its own memory format
        return composed
    return laid_out_like(composed, weight if spec.has_plain_weight else delta)


def _implementation(weight: Tensor, delta: Tensor, spec: Spec) -> Any:
    """The function that gives W D', and W + W D' if D_mul = |K|, where W I is W."""
    if torch.jit.is_tracing() or torch.compiler.is_exporting():
        return formula.composed  # an exported graph, which must not need do_conv
    if torch.compiler.is_compiling():
        # `torch.func` takes no gradients through an operator that PyTorch does not know.
        is_transformed = torch._C._are_functorch_transforms_active()
        if loops.pay(weight, delta, spec) and not is_transformed:
            return operators.composed
        is_narrow = max(spec.d_mul, spec.area) <= unrolled.WIDEST
        return (unrolled if is_narrow else formula).composed
    are_allowed = loops.pay(weight, delta, spec) and not loops.are_watched()
    return (loops if are_allowed else formula).composed


def depthwise_kernel(delta: Tensor, spec: Spec) -> Tensor:
    """D = I + D' as a depthwise convolution's kernel, `(C_in * D_mul, 1, *K)`, in D's format."""
    parameter, is_last = delta, _is_channels_last(delta)
    if is_last:
        delta = channels_last(delta)
    depthwise = add_identity(delta, spec) if spec.whole_blocks else delta
    kernel = depthwise.reshape(-1, 1, *spec.kernel_size)
    return laid_out_like(kernel, parameter) if is_last else kernel


def add_identity(delta: Tensor, spec: Spec | None = None) -> Tensor:
    """D = I + D', `(C_in, D_mul, *K)`."""
    if isinstance(delta, Proxy):
        return _node(add_identity, delta)
    if spec is None:
        spec = Spec(None, None, tuple(delta.shape[2:]), d_mul=delta.shape[1])
    # The core's identity, made where D' is: a copy of the core's array would be a constant to a
    # tracer, and a transfer to an accelerator.
    block = torch.eye(spec.area, dtype=delta.dtype, device=delta.device)
    blocks = block.repeat(spec.whole_blocks, 1)
    identity = functional.pad(blocks, (0, 0, 0, spec.d_mul % spec.area))
    return delta + identity.reshape(delta.shape[1:])


def pointwise_kernel(weight: Tensor, spec: Spec) -> Tensor:
    """W as a grouped pointwise convolution's kernel, `(C_out, C_in/G * D_mul, 1, ...)`."""
    if _is_channels_last(weight):
        weight = channels_last(weight)
    return weight.reshape(spec.rows, -1, *[1] * spec.rank)


def _is_channels_last(parameter: Tensor) -> bool:
    """Whether to keep channels last: a Proxy has no strides, and a compiler chooses its own."""
    is_known = not isinstance(parameter, Proxy) and not torch.compiler.is_compiling()
    return is_known and is_channels_last(parameter)


def _node(function: Callable[..., Any], array: Any, *arguments: Any) -> Any:
    """One node of a `torch.fx` graph, whose arrays are Proxies that know no dtype and no device."""
    return array.tracer.create_proxy("call_function", function, (array, *arguments), {})


def without_autocast(weight: Tensor) -> contextlib.AbstractContextManager:
    """Autocast would round D' before it is added; composing keeps the parameters' precision."""
    if has_autocast(weight):
        return torch.autocast(weight.device.type, enabled=False)
    return contextlib.nullcontext()


def has_autocast(array: Tensor) -> bool:
    """Whether autocast is on where an array is; PyTorch has none on the device `meta`."""
    device = array.device.type
    return device != "meta" and torch.is_autocast_enabled(device)
