"""On a CPU: loops in C, in `native.c`, which is compiled when the package is installed.

No operator of PyTorch's multiplies rows of nine numbers at the rate at which they can be read. The
loops go through each array once, and add what is added to a product in the same pass.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from do_conv.core.spec import Spec
from do_conv.torch.layout import laid_out_like
from do_conv.torch.products import formula

DTYPES = (torch.float32, torch.float64)
ROWS = 4  # output channels of a group, which the loops take at a time: a depthwise layer has fewer
WIDEST = 49  # slots or kernel positions, by the benchmark of composition: 7 x 7


class _Job(ctypes.Structure):
    """As `Job` in `native.c`."""

    _fields_ = [
        *[(name, ctypes.c_void_p) for name in ("weight", "delta", "grad", "transposed")],
        *[(name, ctypes.c_void_p) for name in ("composed", "grad_weight", "grad_delta")],
        *[(name, ctypes.c_int64) for name in ("groups", "rows", "channels", "slots", "area")],
        ("is_added", ctypes.c_int),
    ]


def _libraries() -> dict[torch.dtype, ctypes.CDLL]:
    """A library for each dtype, of this source; none where they could not be compiled."""
    source = Path(__file__).with_suffix(".c")
    found = {}
    with contextlib.suppress(OSError):  # speed is no reason not to work at all
        version = hashlib.sha256(source.read_bytes()).hexdigest()[:8]
        for dtype in DTYPES:
            name = f"_native_{str(dtype).removeprefix('torch.')}_{version}.so"
            found[dtype] = ctypes.CDLL(str(source.with_name(name)))
    return found


# Loaded after PyTorch: with its OpenMP, they share its threads.
LIBRARIES = _libraries()


def pays(weight: Tensor, delta: Tensor, spec: Spec) -> bool:
    """Whether these are arrays that the loops can read, of sizes that they are fast for."""
    return (
        spec.group_out_channels >= ROWS
        and max(spec.d_mul, spec.area) <= WIDEST
        and weight.dtype == delta.dtype
        and weight.dtype in LIBRARIES
        and _is_array(weight)
        and _is_array(delta)
    )


def is_watched() -> bool:
    """Whether what is done is also recorded, counted or transformed: that is for operators."""
    return (
        torch._C._len_torch_dispatch_stack() > 0
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
    )


def _is_array(tensor: Tensor) -> bool:
    """Whether it stands for itself alone, in memory."""
    is_plain = type(tensor) in (Tensor, nn.Parameter) and tensor.layout == torch.strided
    return is_plain and tensor.device.type == "cpu"


def _has_memory(tensor: Tensor) -> bool:
    """Not several gradients that are shown as one, nor zeros without memory."""
    try:
        return tensor.untyped_storage().data_ptr() != 0
    except NotImplementedError:
        return False


def composed(weight: Tensor, delta: Tensor, spec: Spec) -> Tensor:
    """As `formula.composed`, in eager mode."""
    return _Eager.apply(weight, delta, spec)


class _Eager(torch.autograd.Function):
    """Without the detour of an operator."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, delta: Tensor, spec: Spec) -> Tensor:
        """W', in W's memory format if it has W's shape."""
        ctx.save_for_backward(weight, delta)
        ctx.spec = spec
        written = compose(weight, delta, spec.has_plain_weight)
        if spec.has_plain_weight and not weight.is_contiguous():
            return torch.empty_like(weight).copy_(written)
        return written

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """The gradients that are asked for; by the formula, if they are to have gradients."""
        (weight, delta), spec = ctx.saved_tensors, ctx.spec
        is_one = _is_array(grad) and _has_memory(grad)
        gradients: tuple[Tensor | None, ...]
        if torch.is_grad_enabled() or is_watched() or not is_one:
            gradients = formula.gradients(weight, delta, grad, spec)
        else:
            asked = ctx.needs_input_grad[:2]
            gradients = differentiate(weight, delta, grad, spec.has_plain_weight, asked)
        # The loops write in the default format. Where a gradient is kept as `.grad`, PyTorch would
        # make this copy otherwise.
        of_weight, of_delta = (
            None if one is None else laid_out_like(one, parameter)
            for one, parameter in zip(gradients, (weight, delta), strict=True)
        )
        return of_weight, of_delta, None


def compose(weight: Tensor, delta: Tensor, is_added: bool) -> Tensor:
    """W D', and W if that is added, `(C_out, C_in/G, *K)`."""
    written = like_composed(weight, delta, is_added)
    _call("compose", is_added, _resolved(weight), _resolved(delta), composed=written)
    return written


def differentiate(
    weight: Tensor,
    delta: Tensor,
    grad: Tensor,
    is_added: bool,
    asked: tuple[bool, ...] = (True, True),
) -> tuple[Any, ...]:
    """The gradients of W and D', of that of W'; None for one that is not asked for."""
    weight, delta, grad = _resolved(weight), _resolved(delta), _resolved(grad)
    gradients = zip(like_gradients(weight, delta, grad, is_added), asked, strict=True)
    written = tuple(one if is_asked else None for one, is_asked in gradients)
    room = torch.empty_like(delta)
    _call(
        "differentiate", is_added, weight, delta,
        grad=grad, transposed=room, grad_weight=written[0], grad_delta=written[1],
    )  # fmt: skip
    return written


def _resolved(tensor: Tensor) -> Tensor:
    """Contiguous, with its signs in memory."""
    return tensor.contiguous().resolve_neg()


def like_composed(weight: Tensor, delta: Tensor, is_added: bool) -> Tensor:
    """Room for what `compose` writes."""
    return weight.new_empty((*weight.shape[:2], *delta.shape[2:]))


def like_gradients(
    weight: Tensor, delta: Tensor, grad: Tensor, is_added: bool
) -> tuple[Tensor, Tensor]:
    """Room for what `differentiate` writes."""
    return weight.new_empty(weight.shape), delta.new_empty(delta.shape)


def _call(name: str, is_added: bool, weight: Tensor, delta: Tensor, **others: Any) -> None:
    """A function of the library, of contiguous arrays."""
    channels, slots = weight.shape[1], delta.shape[1]
    groups = delta.shape[0] // channels
    area = delta.numel() // (delta.shape[0] * slots)
    arrays = {"weight": weight, "delta": delta, **others}
    job = _Job(
        **{key: array.data_ptr() for key, array in arrays.items() if array is not None},
        groups=groups, rows=weight.shape[0] // groups, channels=channels, slots=slots, area=area,
        is_added=is_added,
    )  # fmt: skip
    getattr(LIBRARIES[weight.dtype], name)(ctypes.byref(job), torch.get_num_threads())
