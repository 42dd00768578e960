"""The plan of a conversion: which layers become ours, which are left and why, and the cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.parameter import is_lazy

from do_conv.core import rules
from do_conv.core.errors import DOConvError, broken
from do_conv.core.rules import CompositionName, Door
from do_conv.core.spec import Shape
from do_conv.models import reasons
from do_conv.models.choices import Where, about
from do_conv.models.decisions import Convolution, Description, DMul, planned
from do_conv.models.plan import Plan
from do_conv.torch.base import Composed, OverParameterized
from do_conv.torch.models.classes import OwnForward, class_for, reads_weight, spec_of
from do_conv.torch.models.copies import copied
from do_conv.torch.models.structure import holders, unwrapped

# The sizes of a layer that is left for one of these cannot be read.
_WITHOUT_SIZES = (reasons.NO_CHANNELS, reasons.OTHER_SIZES)
# What a class would lose: `convert` gives a layer attributes and methods of these names.
_OUR_NAMES = {
    name
    for base in (Composed, OverParameterized)
    for name in (*vars(base), *base.__annotations__)
    if not name.startswith("__") and not hasattr(_ConvNd, name)
}


def plan(
    model: nn.Module,
    *,
    input_shape: tuple[int, ...] | None = None,
    where: Where = None,
    d_mul: DMul = None,
    composition: CompositionName = "kernel",
    door: Door = "layers",
) -> Plan:
    """Plan training with these options; `str` of the plan is a table.

    Args:
        model: a module.
        input_shape: of the batch `(N, C, *size)` to count multiply-accumulates for; the model is
            run on it once, on zeros, in evaluation mode; one with lazy layers on a copy, whose
            sizes are those it sees. Without it they are not counted.
        where, d_mul, composition: as for `convert`.
        door: "layers" for W and D' in layers, as `convert` makes them, or "optimizer" for W and D'
            in a `DOConvOptimizer`.

    Raises:
        DOConvError: if an option breaks a rule.
    """
    model = unwrapped(model)
    positions: dict[int, list[Shape]] = {}
    if input_shape is not None:
        if any(map(is_lazy, model.parameters())):
            where = about(where, dict(model.named_modules()))
            model = copied(model)
        positions = _positions(model, input_shape)
    batch = 1 if input_shape is None else input_shape[0]
    found = described(model) if rules.door(door) == "layers" else described_in_place(model)
    return planned(found, where, d_mul, composition, positions, batch, door)


def described(model: nn.Module) -> Description:
    """A model's convolutions, each once, and its parameters.

    Raises:
        DOConvError: if it is a program of TorchScript, whose layers cannot be replaced.
    """
    return _described(model, _reason, class_for)


def described_in_place(model: nn.Module) -> Description:
    """`described` where the layers stay: a class with a forward pass of its own is no hindrance."""
    return _described(model, _reason_for_kernel, lambda kind: kind)


def _described(
    model: nn.Module, reason_for: Callable[[Any], str | None], becomes: Callable[[type], type]
) -> Description:
    if isinstance(model, torch.jit.ScriptModule):
        raise broken(
            "a model to over-parameterize must be made of Python modules",
            f"a {type(model).__name__} of TorchScript",
            "give the model that was scripted or traced, and load the weights into it",
        )
    convolutions = list(_convolutions(model, reason_for, becomes))
    return Description(convolutions, _count(model.parameters()), holders(model))


def _convolutions(
    model: nn.Module, reason_for: Callable[[Any], str | None], becomes: Callable[[type], type]
) -> Iterator[Convolution]:
    for name, layer in model.named_modules():
        if isinstance(layer, _ConvNd):
            reason = reason_for(layer)
            ours = None if reason else becomes(type(layer))
            has_sizes = not isinstance(layer, Composed) and reason not in _WITHOUT_SIZES
            yield Convolution(
                name,
                layer,
                reason,
                _count(layer.parameters(recurse=False)),
                spec_of=partial(spec_of, layer) if has_sizes else None,
                becomes=ours,
                kernel_only=ours is not None and issubclass(ours, OwnForward),
                weight=layer._parameters.get("weight"),
            )


def _reason(layer: Any) -> str | None:
    """Why a convolution has to be left, or None."""
    reason = _reason_for_kernel(layer)
    if reason is None and any(hasattr(layer, name) for name in _OUR_NAMES):
        return reasons.OUR_NAMES
    return reason or (None if reads_weight(type(layer)) else reasons.UNREAD_WEIGHT)


def _reason_for_kernel(layer: Any) -> str | None:
    """Why the kernel of a convolution cannot have a D', or None."""
    if isinstance(layer, Composed):
        return reasons.HAS_DEPTHWISE
    if "weight" not in layer._parameters:
        return reasons.COMPUTED_WEIGHT
    is_quantised = type(layer).__module__.startswith("torch.ao.")
    return _reason_of_sizes(layer) or (reasons.QUANTISED if is_quantised else None)


def _reason_of_sizes(layer: Any) -> str | None:
    if not is_lazy(layer.weight) and not layer.weight.numel():
        return reasons.NO_CHANNELS
    try:
        spec = spec_of(layer, None)
    except DOConvError:  # no layer has such sizes
        return reasons.OTHER_SIZES
    if not spec.has_delta:
        return reasons.ONE_POSITION
    # Somebody has set another weight, which plain layers allow, as for grey images.
    has_others = not is_lazy(layer.weight) and layer.weight.shape != spec.composed_shape
    return reasons.OTHER_SIZES if has_others else None


def _count(parameters: Iterable[Any]) -> int:
    """How many numbers the parameters hold; a lazy parameter holds none yet."""
    return sum(parameter.numel() for parameter in parameters if not is_lazy(parameter))


@torch.no_grad()
def _positions(model: nn.Module, input_shape: tuple[int, ...]) -> dict[int, list[Shape]]:
    """The spatial size of each convolution's output, of a transposed layer's input, by its `id`."""
    sizes: dict[int, list[Shape]] = {}

    def keep(layer: Any, given: Any, out: Tensor) -> None:
        read = given[0] if layer.transposed else out
        sizes.setdefault(id(layer), []).append(tuple(read.shape[-len(layer.kernel_size) :]))

    layers = [layer for layer in model.modules() if isinstance(layer, _ConvNd)]
    hooks = [layer.register_forward_hook(keep) for layer in layers]
    modes = {module: module.training for module in model.modules()}
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    try:
        model.eval()(torch.zeros(input_shape, dtype=like.dtype, device=like.device))
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes.items():
            module.training = training
    return sizes
