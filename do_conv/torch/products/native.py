"""On a CPU, eager and compiled: loops in C, in `native.c`, which is compiled when installed.

No operator of PyTorch's multiplies rows of nine numbers at the rate at which they can be read. The
loops go through each array once, and add what is added to a product in the same pass.
"""

from __future__ import annotations

import contextlib
import ctypes
import inspect
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from do_conv.core.spec import Spec
from do_conv.torch.products import formula

DTYPES = (torch.float32, torch.float64)
# Output channels of a group, which the loops take four at a time: a depthwise layer has few.
FEWEST = 4


class _Sizes(ctypes.Structure):
    """As `Sizes` in `native.c`."""

    _fields_ = [
        *[(name, ctypes.c_long) for name in ("groups", "rows", "channels", "slots", "area")],
        ("is_added", ctypes.c_int),
    ]


def _libraries() -> dict[torch.dtype, ctypes.CDLL]:
    """A library for each dtype; none where there was no compiler when this was installed."""
    found = {}
    for dtype in DTYPES:
        path = Path(__file__).with_name(f"_native_{str(dtype).partition('.')[2]}.so")
        with contextlib.suppress(OSError):  # speed is no reason not to work at all
            found[dtype] = ctypes.CDLL(str(path))
    return found


# Loaded after PyTorch, they share its pool of threads.
LIBRARIES = _libraries()


def pays(weight: Tensor, delta: Tensor, spec: Spec) -> bool:
    """Whether there is a library for such arrays, and the layer has rows enough."""
    of_one_kind = weight.dtype == delta.dtype and weight.device == delta.device
    is_served = of_one_kind and weight.device.type == "cpu" and weight.dtype in LIBRARIES
    return is_served and spec.group_out_channels >= FEWEST


def composed(weight: Tensor, delta: Tensor, spec: Spec) -> Tensor:
    """As `formula.composed`."""
    return _Eager.apply(weight, delta, spec)


def compiled(weight: Tensor, delta: Tensor, spec: Spec) -> Tensor:
    """As `formula.composed`, by an operator that a compiler leaves as it is."""
    given = weight.contiguous(), delta.contiguous()
    return torch.ops.do_conv.compose(*given, spec.has_plain_weight)


def _compose(weight: Tensor, delta: Tensor, is_added: bool) -> Tensor:
    """W D', and W if that is added, `(C_out, C_in/G, *K)`, of a contiguous W and D'."""
    written = _like_composed(weight, delta, is_added)
    _call("compose", is_added, weight, delta, written)
    return written


def _differentiate(
    weight: Tensor, delta: Tensor, grad: Tensor, is_added: bool
) -> tuple[Tensor, Tensor]:
    """The gradients of W and D', of that of W', of contiguous arrays."""
    written = _like_gradients(weight, delta, grad, is_added)
    transposed = torch.empty_like(delta)
    _call("differentiate", is_added, weight, delta, grad, transposed, *written)
    return written


def _like_composed(weight: Tensor, delta: Tensor, is_added: bool) -> Tensor:
    return weight.new_empty((*weight.shape[:2], *delta.shape[2:]))


def _like_gradients(
    weight: Tensor, delta: Tensor, grad: Tensor, is_added: bool
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(weight), torch.empty_like(delta)


def _call(name: str, is_added: bool, weight: Tensor, delta: Tensor, *others: Tensor) -> None:
    """A function of the library."""
    channels, slots = weight.shape[1], delta.shape[1]
    groups = delta.shape[0] // channels
    area = delta.numel() // (delta.shape[0] * slots)
    sizes = _Sizes(groups, weight.shape[0] // groups, channels, slots, area, is_added)
    pointers = [ctypes.c_void_p(array.data_ptr()) for array in (weight, delta, *others)]
    function = getattr(LIBRARIES[weight.dtype], name)
    function(*pointers, ctypes.byref(sizes), torch.get_num_threads())


class _Eager(torch.autograd.Function):
    """Without the detour of an operator; what is asked for seldom is the formula's."""

    @staticmethod
    def forward(weight: Tensor, delta: Tensor, spec: Spec) -> Tensor:
        """W', in W's memory format if it has W's shape."""
        written = _compose(weight.contiguous(), delta.contiguous(), spec.has_plain_weight)
        if spec.has_plain_weight and not weight.is_contiguous():
            return torch.empty_like(weight).copy_(written)
        return written

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Spec], output: Tensor) -> None:
        """Keep W and D', for tangents too."""
        weight, delta, ctx.spec = inputs
        ctx.save_for_backward(weight, delta)
        ctx.save_for_forward(weight, delta)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        """Both gradients, which may have gradients themselves, or stand for many."""
        weight, delta = ctx.saved_tensors
        if torch.is_grad_enabled() or not _has_memory(grad):
            return *formula.gradients(weight, delta, grad, ctx.spec), None
        gradients = _differentiate(
            weight.contiguous(), delta.contiguous(), grad.contiguous(), ctx.spec.has_plain_weight
        )
        return *gradients, None

    @staticmethod
    def jvp(ctx: Any, weight: Tensor, delta: Tensor, spec: None) -> Tensor:
        """The kernel is linear in W, and in D'."""
        kept_weight, kept_delta = ctx.saved_tensors
        matrices = formula.matrices(delta, ctx.spec)
        change = formula.each_channel(formula.kernels(kept_weight, ctx.spec), matrices)
        change = change.reshape(ctx.spec.composed_shape)
        return formula.composed(weight, kept_delta, ctx.spec) + change

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Tensor, int]:
        """Many at once are products anyway."""
        return torch.vmap(formula.composed, in_dims)(*inputs), 0


# PyTorch asks for it in every call, and making it anew takes half of a call's time.
_Eager.forward.__signature__ = inspect.signature(_Eager.forward)  # type: ignore[attr-defined]


def _has_memory(tensor: Tensor) -> bool:
    """Whether it is an array: not several that `vmap` shows as one."""
    try:
        tensor.untyped_storage()
    except NotImplementedError:
        return False
    return True


# What a compiler leaves as it is: the same as operators, one the gradient of the other.
_LIBRARY = torch.library.Library("do_conv", "DEF")
_LIBRARY.define("compose(Tensor weight, Tensor delta, bool is_added) -> Tensor")
_LIBRARY.define(
    "differentiate(Tensor weight, Tensor delta, Tensor grad, bool is_added) -> (Tensor, Tensor)"
)
_LIBRARY.impl("compose", _compose, "CPU")
_LIBRARY.impl("differentiate", _differentiate, "CPU")
torch.library.register_fake("do_conv::compose", _like_composed, lib=_LIBRARY)
torch.library.register_fake("do_conv::differentiate", _like_gradients, lib=_LIBRARY)


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor, bool], output: Tensor) -> None:
    weight, delta, ctx.is_added = inputs
    ctx.save_for_backward(weight, delta)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
    given = *ctx.saved_tensors, grad.contiguous()
    return *torch.ops.do_conv.differentiate(*given, ctx.is_added), None


torch.library.register_autograd("do_conv::compose", _backward, setup_context=_keep, lib=_LIBRARY)
