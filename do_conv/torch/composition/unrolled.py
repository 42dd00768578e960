"""For a compiler: a multiply-add for each slot, which it fuses with the operators around it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from do_conv.core.spec import Spec
from do_conv.torch.composition import formula

WIDEST = 16  # slots or kernel positions, by the benchmark of composition
TOGETHER = 4  # channels in one product, whose diagonal is the gradient of D'


def composed(weight: Tensor, delta: Tensor, spec: Spec) -> Tensor:
    """As `formula.composed`."""
    return _Unrolled.apply(weight, delta, spec)


class _Unrolled(torch.autograd.Function):
    """Gradients are written out: a compiler would sum a broadcast product, element by element."""

    generate_vmap_rule = True

    @staticmethod
    def forward(weight: Tensor, delta: Tensor, spec: Spec) -> Tensor:
        kernels = formula.kernels(_as_it_is(weight), spec)
        change = _multiply_add(kernels, formula.matrices(_as_it_is(delta), spec).unsqueeze(1))
        if spec.has_plain_weight:
            change = kernels + change
        return change.reshape(spec.composed_shape)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Spec], output: Tensor) -> None:
        weight, delta, ctx.spec = inputs
        ctx.save_for_backward(weight, delta)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        # Of complex numbers PyTorch's gradients are conjugated.
        (weight, delta), spec = (t.conj().resolve_conj() for t in ctx.saved_tensors), ctx.spec
        grads = formula.kernels(grad, spec)
        # Transposed by a product with the identity: a plain transpose is undone by the compiler,
        # which would then read D' in strides.
        identity = torch.eye(spec.d_mul, dtype=delta.dtype, device=delta.device)
        transposed = torch.matmul(
            formula.matrices(delta, spec).unsqueeze(1).transpose(3, 4), identity
        )
        grad_weight = _multiply_add(grads, transposed)
        if spec.has_plain_weight:
            grad_weight = grads + grad_weight
        return grad_weight.reshape(weight.shape), _correlation(weight, grad, spec), None


def _as_it_is(parameter: Tensor) -> Tensor:
    """The same, as a view in memory order: a copy in channels last would be read in strides."""
    if not parameter.is_contiguous():
        return parameter
    return parameter.as_strided((parameter.numel(),), (1,)).view(parameter.shape)


def _multiply_add(kernels: Tensor, matrices: Tensor) -> Tensor:
    terms = [kernels[..., s, None] * matrices[..., s, :] for s in range(kernels.shape[-1])]
    return sum(terms[1:], terms[0])


def _correlation(weight: Tensor, grad: Tensor, spec: Spec) -> Tensor:
    """The gradient of D': the diagonals of the products of W and the gradient of W'."""
    channels = spec.group_channels
    together = next(number for number in range(TOGETHER, 0, -1) if channels % number == 0)
    blocks = channels // together
    left, right = (t.reshape(spec.groups, spec.group_rows, blocks, -1) for t in (weight, grad))
    products = torch.matmul(left.permute(0, 2, 3, 1), right.transpose(1, 2))
    products = products.reshape(-1, blocks, together, spec.d_mul, together, spec.area)
    on_diagonals = [products[:, :, c, :, c] for c in range(together)]
    return torch.stack(on_diagonals, 2).reshape(spec.delta_shape)
