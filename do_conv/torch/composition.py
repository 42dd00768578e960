"""The composed kernel in PyTorch: `do_conv.core.composition` on tensors, with gradients."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor

from do_conv.core.spec import Spec
from do_conv.core.starts import identity


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


def compose_spec(weight: Tensor, delta: Tensor, spec: Spec) -> Tensor:
    """`compose` for a layer that knows its sizes."""
    with _without_autocast(weight):
        per_group = (spec.groups, spec.group_in_channels)
        kernels = weight.reshape(spec.groups, -1, spec.group_in_channels, spec.d_mul)
        matrices = delta.reshape(*per_group, spec.d_mul, spec.area)
        change = torch.matmul(kernels.transpose(1, 2), matrices).transpose(1, 2)
        # The sum takes its memory format from W, its first term.
        return _identity_part(weight, spec) + change.reshape(spec.composed_shape)


def depthwise_kernel(delta: Tensor, spec: Spec) -> Tensor:
    """D = I + D' as a depthwise convolution's kernel, `(C_in * D_mul, 1, *K)`."""
    depthwise = delta + torch.as_tensor(identity(spec), dtype=delta.dtype, device=delta.device)
    return depthwise.reshape(-1, 1, *spec.kernel_size)


def pointwise_kernel(weight: Tensor, spec: Spec) -> Tensor:
    """W as a grouped pointwise convolution's kernel, `(C_out, C_in/G * D_mul, 1, ...)`."""
    return weight.reshape(spec.out_channels, -1, *[1] * spec.rank)


def _identity_part(weight: Tensor, spec: Spec) -> Tensor:
    """W I: the sum of W's whole blocks."""
    if spec.has_plain_weight:
        return weight.reshape(spec.composed_shape)
    whole = weight[:, :, : spec.whole_blocks * spec.area]
    blocks = whole.reshape(*whole.shape[:2], spec.whole_blocks, spec.area)
    return blocks.sum(2).reshape(spec.composed_shape)


def _without_autocast(weight: Tensor) -> contextlib.AbstractContextManager:
    """Autocast would round D' before it is added; composing keeps the parameters' precision."""
    device = weight.device.type
    if device != "meta" and torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return contextlib.nullcontext()
