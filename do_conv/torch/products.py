"""The product W D' of every input channel, the one costly step of a composition.

_by_blocks    a matrix product for each input channel, or for several at once with their matrices on
              a diagonal: a batch of 9 x 9 products is slow, and zeros are quickly multiplied
_Unrolled     a multiply-add for each slot, which a compiler fuses with what is before and after

Both are sums of the same terms: the choice is of speed alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from do_conv.core.spec import Spec

# As the benchmark of composition has them.
BLOCK_WIDTH = 36  # what a block of several channels may have
FEWEST_ROWS = 64  # output channels of a group, below which making the blocks costs what they save
WIDEST_UNROLLED = 16  # slots or kernel positions


def product(weight: Tensor, delta: Tensor, spec: Spec) -> Tensor:
    """W D' of every input channel, `sum_s W[o, c, s] D'[i, s, k]`.

    Args:
        weight: W, in either of its shapes.
        delta: D', `(C_in, D_mul, *K)`.
        spec: the sizes.

    Returns:
        `(G, C_out/G, blocks, channels, *K)`: C_out and C_in/G have two axes each, so that W can be
        added without a copy of either.
    """
    if torch.jit.is_tracing() or torch.compiler.is_exporting():
        return _by_blocks(weight, delta, spec, 1)  # a graph for elsewhere has the plain formula
    if torch.compiler.is_compiling() and _width(spec) <= WIDEST_UNROLLED:
        return _unrolled(weight, delta, spec)
    return _by_blocks(weight, delta, spec, channels_together(spec))


def channels_together(spec: Spec) -> int:
    """How many input channels have one block: as many as divide those of a group."""
    if spec.group_out_channels < FEWEST_ROWS:
        return 1
    together = max(1, BLOCK_WIDTH // _width(spec))
    while spec.group_in_channels % together:
        together -= 1
    return together


def _width(spec: Spec) -> int:
    return max(spec.d_mul, spec.area)


def _by_blocks(weight: Tensor, delta: Tensor, spec: Spec, together: int) -> Tensor:
    blocks = spec.group_in_channels // together
    panels = _panels(weight, spec, together, spec.d_mul).flatten(0, 1)
    change = torch.bmm(panels, _block_diagonal(delta, spec, together))
    shape = (spec.groups, blocks, spec.group_out_channels, together, *spec.kernel_size)
    return change.view(shape).transpose(1, 2)


def _panels(kernel: Tensor, spec: Spec, together: int, slots: int) -> Tensor:
    """What a block multiplies, or its product: `(G, blocks, C_out/G, channels * slots)`."""
    shape = (spec.groups, spec.group_out_channels, -1, together * slots)
    return kernel.reshape(shape).transpose(1, 2)


def _block_diagonal(delta: Tensor, spec: Spec, together: int) -> Tensor:
    """`(G * blocks, channels * D_mul, channels * |K|)`, each channel's matrix on the diagonal."""
    if together == 1:
        return delta.reshape(-1, spec.d_mul, spec.area)
    matrices = delta.reshape(-1, together, spec.d_mul, spec.area)
    diagonal = torch.diag_embed(matrices.permute(0, 2, 3, 1)).permute(0, 3, 1, 4, 2)
    return diagonal.reshape(-1, together * spec.d_mul, together * spec.area)


def _unrolled(weight: Tensor, delta: Tensor, spec: Spec) -> Tensor:
    kernels = weight.reshape(spec.groups, spec.group_out_channels, -1, spec.d_mul)
    matrices = delta.reshape(spec.groups, 1, -1, spec.d_mul, spec.area)
    change = _Unrolled.apply(kernels, matrices, spec)
    return change.unflatten(-1, (1, *spec.kernel_size))


class _Unrolled(torch.autograd.Function):
    """`(G, C_out/G, C_in/G, |K|)` of W `(G, C_out/G, C_in/G, D_mul)` and D' with one axis more.

    The gradients are written out: a compiler would sum a broadcast product, element by element.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(kernels: Tensor, matrices: Tensor, spec: Spec) -> Tensor:
        return _multiply_add(kernels, matrices)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Spec], output: Tensor) -> None:
        *tensors, ctx.spec = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        kernels, matrices = ctx.saved_tensors
        # Transposed by a product with the identity: a plain transpose is undone by the compiler,
        # which would then read D' in strides.
        identity = torch.eye(ctx.spec.d_mul, dtype=matrices.dtype, device=matrices.device)
        transposed = torch.matmul(matrices.transpose(3, 4), identity)
        grad_matrices = _on_the_diagonal(kernels, grad, ctx.spec).reshape(matrices.shape)
        return _multiply_add(grad, transposed), grad_matrices, None


def _multiply_add(kernels: Tensor, matrices: Tensor) -> Tensor:
    terms = [kernels[..., s, None] * matrices[..., s, :] for s in range(kernels.shape[-1])]
    return sum(terms[1:], terms[0])


def _on_the_diagonal(kernels: Tensor, grad: Tensor, spec: Spec) -> Tensor:
    """The gradient of D': of the blocks' products of W and the gradient what is on the diagonal."""
    together = channels_together(spec)
    left = _panels(kernels, spec, together, spec.d_mul).transpose(2, 3)
    blocks = torch.matmul(left, _panels(grad, spec, together, spec.area))
    blocks = blocks.reshape(-1, together, spec.d_mul, together, spec.area)
    return torch.stack([blocks[:, one, :, one] for one in range(together)], 1)
