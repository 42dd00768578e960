"""For a compiler: a multiply-add for each slot, fused with what is before and after."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from do_conv.core.spec import Spec
from do_conv.torch.products.formula import finished, kernels, matrices

WIDEST = 16  # slots or kernel positions, by the benchmark of composition
TOGETHER = 4  # channels in one product, whose diagonal is the gradient of D'


def unrolled(weight: Tensor, delta: Tensor, spec: Spec) -> Tensor:
    """`formula`."""
    return finished(_Unrolled.apply(kernels(weight, spec), matrices(delta, spec)), weight, spec)


class _Unrolled(torch.autograd.Function):
    """`formula.each_channel`; a compiler would sum a broadcast product, element by element."""

    generate_vmap_rule = True

    @staticmethod
    def forward(kernels: Tensor, matrices: Tensor) -> Tensor:
        return _multiply_add(kernels, matrices)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        kernels, matrices = ctx.saved_tensors
        # Transposed by a product with the identity: a plain transpose is undone by the compiler,
        # which would then read D' in strides.
        identity = torch.eye(matrices.shape[2], dtype=matrices.dtype, device=matrices.device)
        transposed = torch.matmul(matrices.transpose(2, 3), identity)
        return _multiply_add(grad, transposed), _correlation(kernels, grad)


def _multiply_add(kernels: Tensor, matrices: Tensor) -> Tensor:
    matrices = matrices.unsqueeze(1)
    terms = [kernels[..., s, None] * matrices[..., s, :] for s in range(kernels.shape[-1])]
    return sum(terms[1:], terms[0])


def _correlation(kernels: Tensor, grad: Tensor) -> Tensor:
    """The gradient of D', `(G, C_in/G, D_mul, |K|)`: what is on the diagonals of products."""
    groups, rows, channels, slots = kernels.shape
    together = next(number for number in range(TOGETHER, 0, -1) if channels % number == 0)
    left, right = (
        one.reshape(groups, rows, channels // together, -1).transpose(1, 2)
        for one in (kernels, grad)
    )
    blocks = torch.matmul(left.transpose(2, 3), right)
    blocks = blocks.reshape(groups, channels // together, together, slots, together, -1)
    on_diagonals = [blocks[:, :, one, :, one] for one in range(together)]
    return torch.stack(on_diagonals, 2).reshape(groups, channels, slots, -1)
