"""A matrix product for each input channel, and its gradients, in few operators."""

from __future__ import annotations

import torch
from torch import Tensor

from do_conv.core.spec import Spec
from do_conv.torch.layout import channels_last, is_channels_last


def composed(weight: Tensor, delta: Tensor, spec: Spec) -> Tensor:
    """W D', and W + W D' if D_mul = |K|: `(C_out, C_in/G, *K)`."""
    if 1 in (spec.rows, spec.group_channels) and is_channels_last(weight):
        weight = channels_last(weight)  # otherwise the strides of its gradient fit both formats
    change = each_channel(kernels(weight, spec), _matrices_as_stored(delta, spec))
    change = change.unflatten(-1, spec.kernel_size)
    if spec.has_plain_weight:  # the sum takes its memory format from W, its first term
        change = weight.unflatten(0, (spec.groups, -1)) + change
    return change.flatten(0, 1)


def gradients(weight: Tensor, delta: Tensor, grad: Tensor, spec: Spec) -> tuple[Tensor, Tensor]:
    """Those of W and D', in operators that have gradients themselves."""
    grads = kernels(grad, spec)
    grad_weight = each_channel(grads, matrices(delta, spec).transpose(2, 3)).reshape(weight.shape)
    grad_delta = torch.matmul(kernels(weight, spec).permute(0, 2, 3, 1), grads.transpose(1, 2))
    if spec.has_plain_weight:
        grad_weight = grad + grad_weight
    return grad_weight, grad_delta.reshape(delta.shape)


def kernels(kernel: Tensor, spec: Spec) -> Tensor:
    """W or W' as `(G, C_out/G, C_in/G, slots)`."""
    return kernel.reshape(spec.groups, spec.group_rows, spec.group_channels, -1)


def matrices(delta: Tensor, spec: Spec) -> Tensor:
    """D' as `(G, C_in/G, D_mul, |K|)`."""
    return delta.reshape(spec.groups, spec.group_channels, spec.d_mul, spec.area)


def _matrices_as_stored(delta: Tensor, spec: Spec) -> Tensor:
    """The same, as a view of a D' in channels last; then its gradient comes in channels last."""
    if not is_channels_last(delta):
        return matrices(delta, spec)
    transposed = (spec.groups, spec.group_channels, spec.area, spec.d_mul)
    return delta.movedim(1, -1).flatten().unflatten(0, transposed).transpose(2, 3)


def each_channel(kernels: Tensor, matrices: Tensor) -> Tensor:
    """`(G, C_out/G, C_in/G, |K|)`, each channel's kernels by its matrix."""
    return torch.matmul(kernels.transpose(1, 2), matrices).transpose(1, 2)
