"""In eager mode: several channels have one product, with their matrices on a diagonal.

A batch of 9 x 9 products is slow, and zeros are quickly multiplied. What is added to a product is
added where the sum is to stay, in the gradient too, so that no array is gone through once more.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any, NamedTuple

import torch
from torch import Tensor

from do_conv.core.spec import Spec
from do_conv.torch.products import formula
from do_conv.torch.products.formula import each_channel, kernels, matrices

# As the benchmark of composition has them.
WIDTH = 18  # kernel positions that a block of several channels may have
FEWEST = 6144  # pairs of channels in a group, below which calling all this takes what it saves


class Layout(NamedTuple):
    """How the arrays of a layer are taken apart; kept, for a small product takes no longer."""

    together: int  # input channels that have one block
    columns: tuple[int, ...]  # a kernel as `(G, C_out/G, blocks, channels * slots)`
    blocks: tuple[int, ...]  # `(G, blocks, channels * D_mul, channels * |K|)`
    diagonals: tuple[int, ...]  # D' as `(G, blocks, channels, D_mul, |K|)`
    strides: tuple[int, ...]  # and where in the blocks it is


@functools.lru_cache(1024)
def layout(spec: Spec) -> Layout:
    """A layer's, with as many channels together as divide those of a group."""
    channels, rows = spec.group_in_channels, spec.group_out_channels
    slots, area = spec.d_mul, spec.area
    together = max(1, WIDTH // area)
    while channels % together:
        together -= 1
    number = channels // together
    height, width = together * slots, together * area
    return Layout(
        together,
        (spec.groups, rows, number, -1),
        (spec.groups, number, height, width),
        (spec.groups, number, together, slots, area),
        (number * height * width, height * width, slots * width + area, width, 1),
    )


def pays(spec: Spec) -> bool:
    """Whether a layer is large enough, and its kernel small enough for blocks."""
    pairs = spec.group_out_channels * spec.group_in_channels
    return pairs >= FEWEST and layout(spec).together > 1


def composed(weight: Tensor, delta: Tensor, spec: Spec) -> Tensor:
    """As `formula.composed`."""
    return _Blocks.apply(weight, delta, spec)


class _Blocks(torch.autograd.Function):
    """Gradients are written out, so that what is added to them is added in the same pass."""

    @staticmethod
    def forward(weight: Tensor, delta: Tensor, spec: Spec) -> Tensor:
        """W'."""
        blocks, composed = _on_diagonals(delta, layout(spec)), weight.new_empty(spec.composed_shape)
        _multiply(weight.contiguous(), blocks, composed, spec)
        if spec.has_plain_weight and not weight.is_contiguous():
            return torch.empty_like(weight).copy_(composed)  # in W's memory format
        return composed

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Spec], output: Tensor) -> None:
        """Keep W and D'."""
        weight, delta, ctx.spec = inputs
        ctx.save_for_backward(weight, delta)
        ctx.save_for_forward(weight, delta)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """Write the gradients that are asked for."""
        weight, delta = ctx.saved_tensors
        if torch.is_grad_enabled() or not _has_memory(grad):
            return *formula.gradients(weight, delta, grad, ctx.spec), None
        grad, spec = grad.contiguous(), ctx.spec
        grad_weight = grad_delta = None
        if ctx.needs_input_grad[0]:
            transposed = _on_diagonals(delta, layout(spec)).transpose(2, 3)
            grad_weight = _multiply(grad, transposed, weight.new_empty(weight.shape), spec)
        if ctx.needs_input_grad[1]:
            grad_delta = _correlate(weight.contiguous(), grad, spec)
        return grad_weight, grad_delta, None

    @staticmethod
    def jvp(ctx: Any, weight: Tensor, delta: Tensor, spec: None) -> Tensor:
        """The kernel is linear in W, and in D'."""
        kept_weight, kept_delta = ctx.saved_tensors
        change = each_channel(kernels(kept_weight, ctx.spec), matrices(delta, ctx.spec))
        change = change.reshape(ctx.spec.composed_shape)
        return formula.composed(weight, kept_delta, ctx.spec) + change

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Tensor, int]:
        """Several at once are products anyway."""
        return torch.vmap(formula.composed, in_dims)(*inputs), 0


# PyTorch asks for it in every call, and making it anew takes half of a call's time.
_Blocks.forward.__signature__ = inspect.signature(_Blocks.forward)  # type: ignore[attr-defined]


def _has_memory(tensor: Tensor) -> bool:
    """Whether it is an array: not several that `vmap` shows as one."""
    try:
        tensor.untyped_storage()
    except NotImplementedError:
        return False
    return True


def _on_diagonals(delta: Tensor, how: Layout) -> Tensor:
    """Blocks of each channel's matrix on a diagonal."""
    each = delta.reshape(how.diagonals)
    if how.together == 1:
        return each.squeeze(2)
    blocks = delta.new_zeros(how.blocks)
    blocks.as_strided(how.diagonals, how.strides).copy_(each)
    return blocks


def _panels(kernel: Tensor, how: Layout) -> Tensor:
    """A contiguous kernel's columns by blocks, a view: `(G, blocks, C_out/G, channels * slots)`."""
    return kernel.view(how.columns).transpose(1, 2)


def _multiply(kernel: Tensor, blocks: Tensor, written: Tensor, spec: Spec) -> Tensor:
    """Each channel's product, and the kernel plus that if D_mul = |K|."""
    how = layout(spec)
    given, to = _panels(kernel, how), _panels(written, how)
    change = torch.matmul(given, blocks)
    if spec.has_plain_weight:
        torch.add(given, change, out=to)
    else:
        to.copy_(change)
    return written


def _correlate(kernel: Tensor, grad: Tensor, spec: Spec) -> Tensor:
    """The gradient of D': what is on the diagonals of the products of W and the gradient."""
    how = layout(spec)
    blocks = torch.matmul(_panels(kernel, how).transpose(2, 3), _panels(grad, how))
    return blocks.as_strided(how.diagonals, how.strides).reshape(spec.delta_shape)
