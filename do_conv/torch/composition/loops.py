"""Eager, on a CPU: the loops in C of `do_conv.native`, as a differentiable function."""

from __future__ import annotations

from typing import Any

import torch  # before the loops, so that both have one OpenMP
from torch import Tensor, nn
from torch.autograd import forward_ad

from do_conv import native
from do_conv.core.errors import broken
from do_conv.core.spec import Spec
from do_conv.torch.composition import formula
from do_conv.torch.layout import is_channels_last, laid_out_like

_DTYPES = {getattr(torch, dtype): dtype for dtype in native.LIBRARIES}


def pay(weight: Tensor, delta: Tensor, spec: Spec) -> bool:
    """Whether the loops can read these tensors, and are fast for their sizes."""
    return (
        native.pays(spec.group_rows, spec.d_mul, spec.area)
        and weight.dtype == delta.dtype
        and weight.dtype in _DTYPES
        and _is_array(weight)
        and _is_array(delta)
    )


def are_watched() -> bool:
    """Whether a dispatch mode, a transform or forward mode is active: these see operators only."""
    return (
        torch._C._len_torch_dispatch_stack() > 0
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
    )


def _is_array(tensor: Tensor) -> bool:
    """Whether a tensor is a dense array on the CPU, of no subclass."""
    is_plain = type(tensor) in (Tensor, nn.Parameter) and tensor.layout == torch.strided
    return is_plain and tensor.device.type == "cpu"


def _has_memory(tensor: Tensor) -> bool:
    """Whether a tensor has memory: a batch of gradients and a tensor of zeros may have none."""
    try:
        return tensor.untyped_storage().data_ptr() != 0
    except NotImplementedError:
        return False


class _Eager(torch.autograd.Function):
    """The loops without an operator, whose dispatch would cost time."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, delta: Tensor, spec: Spec) -> Tensor:
        """W', in W's memory format if it has W's shape."""
        ctx.save_for_backward(weight, delta)
        ctx.spec = spec
        written = compose(weight, delta, spec.has_plain_weight)
        if spec.has_plain_weight and written.stride() != weight.stride():
            return torch.empty_like(weight).copy_(written)
        return written

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """The gradients that are asked for; by the formula, if they are to have gradients."""
        (weight, delta), spec = ctx.saved_tensors, ctx.spec
        is_readable = _is_array(grad) and _has_memory(grad)
        gradients: tuple[Tensor | None, ...]
        if torch.is_grad_enabled() or are_watched() or not is_readable:
            gradients = formula.gradients(weight, delta, grad, spec)
        else:
            asked = ctx.needs_input_grad[:2]
            gradients = differentiate(weight, delta, grad, spec.has_plain_weight, asked)
        # The loops write most in the default memory format. For a gradient kept in `.grad`
        # PyTorch would make this copy otherwise.
        of_weight, of_delta = (
            None if gradient is None else laid_out_like(gradient, parameter)
            for gradient, parameter in zip(gradients, (weight, delta), strict=True)
        )
        return of_weight, of_delta, None


composed = _Eager.apply  # as `formula.composed`, in eager mode


def compose(weight: Tensor, delta: Tensor, is_added: bool, written: Tensor | None = None) -> Tensor:
    """W D', and W if that is added, `(C_out, C_in/G, *K)`, in the memory format of W.

    `written` is where to write it, in that format; None is a new tensor.
    """
    laid_out = memory_format(is_added, weight)
    call = _call(weight, delta, is_added, written)
    written = like_composed(weight, delta, is_added) if written is None else written
    weight, delta = _resolved(weight, laid_out), _resolved(delta)
    native.compose(
        *call, is_last=laid_out is torch.channels_last,
        weight=weight.data_ptr(), delta=delta.data_ptr(), composed=written.data_ptr(),
    )  # fmt: skip
    return written


def differentiate(
    weight: Tensor,
    delta: Tensor,
    grad: Tensor,
    is_added: bool,
    asked: tuple[bool, ...] = (True, True),
) -> tuple[Any, ...]:
    """The gradients of W and D', given that of W'; None where a gradient is not asked for."""
    laid_out, call = memory_format(is_added, weight, grad), _call(weight, delta, is_added, grad)
    weight, grad, delta = _resolved(weight, laid_out), _resolved(grad, laid_out), _resolved(delta)
    empty = zip(like_gradients(weight, delta, grad, is_added), asked, strict=True)
    written = tuple(tensor if is_asked else None for tensor, is_asked in empty)
    room = torch.empty_like(delta)
    by_weight, by_delta = (None if tensor is None else tensor.data_ptr() for tensor in written)
    native.differentiate(
        *call, is_last=laid_out is torch.channels_last,
        weight=weight.data_ptr(), delta=delta.data_ptr(), grad=grad.data_ptr(),
        transposed=room.data_ptr(), grad_weight=by_weight, grad_delta=by_delta,
    )  # fmt: skip
    return written


def memory_format(is_added: bool, *kernels: Tensor) -> torch.memory_format:
    """The format in which the loops take these kernels: channels last if they are in it."""
    if not (is_added and all(map(is_channels_last, kernels))):
        return torch.contiguous_format
    channels, area = kernels[0].shape[1], kernels[0].shape[2:].numel()
    can_be_last = native.can_be_last(_DTYPES.get(kernels[0].dtype, ""), channels, area)
    return torch.channels_last if can_be_last else torch.contiguous_format


def _resolved(tensor: Tensor, laid_out: torch.memory_format = torch.contiguous_format) -> Tensor:
    """Contiguous in a memory format, with its signs in memory."""
    return tensor.contiguous(memory_format=laid_out).resolve_neg()


def like_composed(weight: Tensor, delta: Tensor, is_added: bool) -> Tensor:
    """An empty tensor for the result of `compose`."""
    shape, laid_out = (*weight.shape[:2], *delta.shape[2:]), memory_format(is_added, weight)
    return torch.empty(shape, dtype=weight.dtype, device=weight.device, memory_format=laid_out)


def like_gradients(
    weight: Tensor, delta: Tensor, grad: Tensor, is_added: bool
) -> tuple[Tensor, Tensor]:
    """Empty tensors for the results of `differentiate`."""
    laid_out = memory_format(is_added, weight, grad)
    return torch.empty_like(weight, memory_format=laid_out), delta.new_empty(delta.shape)


def _call(
    weight: Tensor, delta: Tensor, is_added: bool, composed: Tensor | None = None
) -> tuple[Any, ...]:
    """The dtype, threads, sizes and `is_added` of a call of the loops.

    They read and write by these sizes alone, so arrays that do not fit together are refused: one
    may have been replaced since its layer was called, or its optimizer was made.

    Args:
        weight, delta, is_added: of the call.
        composed: W', or a gradient in its shape, if there is one.
    """
    channels, slots = weight.shape[1], delta.shape[1]
    groups = delta.shape[0] // channels
    area = delta.numel() // (delta.shape[0] * slots)
    rows = weight.shape[0] // max(groups, 1)
    sizes = groups, rows, channels, slots, area
    kernel = weight.shape[:2] + delta.shape[2:]
    given = [delta] if composed is None else [delta, composed]
    if (
        groups * rows != weight.shape[0]
        or groups * channels != delta.shape[0]
        or weight.numel() != weight.shape[0] * channels * slots
        or (composed is not None and composed.shape != kernel)
        or any((one.dtype, one.device) != (weight.dtype, weight.device) for one in given)
    ):
        raise broken(
            "the arrays of a kernel must fit together",
            " and ".join(f"{tuple(one.shape)} in {one.dtype}" for one in (weight, *given)),
            "change the plain layer, its channels and groups too, and over-parameterize it then",
        )
    return _DTYPES[weight.dtype], torch.get_num_threads(), sizes, is_added
