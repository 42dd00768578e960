"""Whole models: what could be converted, and converting it.

A layer is converted where it stands: its class changes, and D' is added. So its name, mode, hooks
and parameters stay the same objects, modules that are shared stay shared, weights that are tied
stay tied, and an optimizer keeps what it knows of them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.parameter import UninitializedParameter, is_lazy

from do_conv.core import rules
from do_conv.core.choices import Choice, Where, chosen
from do_conv.core.plan import Plan, Row
from do_conv.core.spec import Spec
from do_conv.torch.base import Composed
from do_conv.torch.layers import DOConv1d, DOConv2d, DOConv3d
from do_conv.torch.lazy import (
    LazyDOConv1d,
    LazyDOConv2d,
    LazyDOConv3d,
    LazyDOConvTranspose1d,
    LazyDOConvTranspose2d,
    LazyDOConvTranspose3d,
)
from do_conv.torch.models.folding import fold_inside
from do_conv.torch.models.guards import guard
from do_conv.torch.models.served import Served, reads_weight, served_class
from do_conv.torch.models.wrappers import unwrapped
from do_conv.torch.starts import start_delta, weight_for
from do_conv.torch.transposed import DOConvTranspose1d, DOConvTranspose2d, DOConvTranspose3d

_OURS: dict[type[nn.Module], Any] = {
    nn.Conv1d: DOConv1d,
    nn.Conv2d: DOConv2d,
    nn.Conv3d: DOConv3d,
    nn.ConvTranspose1d: DOConvTranspose1d,
    nn.ConvTranspose2d: DOConvTranspose2d,
    nn.ConvTranspose3d: DOConvTranspose3d,
    nn.LazyConv1d: LazyDOConv1d,
    nn.LazyConv2d: LazyDOConv2d,
    nn.LazyConv3d: LazyDOConv3d,
    nn.LazyConvTranspose1d: LazyDOConvTranspose1d,
    nn.LazyConvTranspose2d: LazyDOConvTranspose2d,
    nn.LazyConvTranspose3d: LazyDOConvTranspose3d,
}

# D_mul for all layers, or for the layer of a spec; None is |K|.
DMul = int | Callable[[Spec], int] | None


def convert(
    model: nn.Module,
    *,
    where: Where | Choice | None = None,
    inplace: bool = False,
    d_mul: DMul = None,
    depthwise_init: str = "identity",
    composition: str = "kernel",
) -> Any:
    """Over-parameterize the convolutions of a model, or a bare convolution.

    With the identity start the outputs stay what they are, to the last bit. Weights, names, mode,
    dtype, device, hooks and `requires_grad` stay; D' is trained if its `weight` is.

    Args:
        model: a module; of a wrapper (`DataParallel`, a compiled model), what it wraps.
        where: which layers, as a function of a layer's name and the layer, or a choice of
            `do_conv.choices`; None is all that can be.
        inplace: convert `model` itself, not a copy.
        d_mul: D_mul, at least |K|, the default; or a function of a layer's `Spec`.
        depthwise_init: "identity" or "he" (Table 7), which changes the outputs.
        composition: "kernel" or "feature"; subclasses with a forward pass of their own take
            "kernel" only.

    Returns:
        the converted model.

    Raises:
        DOConvError: if there is nothing to convert, or an option breaks a rule; then `model` is as
            it was.
    """
    start, composition = rules.depthwise_init(depthwise_init), rules.composition(composition)
    model = unwrapped(model)
    rows = [row for _, row in _decisions(model, where, d_mul, composition)]
    rules.something_to_convert([row.reason for row in rows if row.becomes is None], len(rows))
    if not inplace:
        model = copy.deepcopy(model)
    converted = [pair for pair in _decisions(model, where, d_mul, composition) if pair[1].becomes]
    deltas: dict[tuple[int, Spec], nn.Parameter] = {}
    for layer, row in converted:
        _convert_layer(layer, row, start, deltas)
    guard(model, fold_inside)
    return model


def plan(
    model: nn.Module,
    *,
    input_shape: tuple[int, ...] | None = None,
    where: Where | Choice | None = None,
    d_mul: DMul = None,
    composition: str = "kernel",
) -> Plan:
    """What `convert` would do with these options; `str` of it is a table.

    Args:
        model: a module.
        input_shape: of the batch `(N, C, *size)` to count multiply-accumulates for; the model is
            run on it once, on zeros, in evaluation mode. Without it they are not counted.
        where, d_mul, composition: as for `convert`.

    Raises:
        DOConvError: if an option breaks a rule.
    """
    model = unwrapped(model)
    positions = {} if input_shape is None else _positions(model, input_shape)
    rows = tuple(
        Row(**{**vars(row), "positions": positions.get(layer)})
        for layer, row in _decisions(model, where, d_mul, rules.composition(composition))
    )
    parameters = sum(p.numel() for p in model.parameters() if not is_lazy(p))
    return Plan(rows, parameters, 1 if input_shape is None else input_shape[0])


def _decisions(
    model: nn.Module, where: Where | Choice | None, d_mul: DMul, composition: str
) -> Iterator[tuple[Any, Row]]:
    """Each convolution once, in the model's order, with what becomes of it."""
    rows = dict(_each_alone(model, where, d_mul, composition))
    uses: dict[int, set[Spec | None]] = {}
    for module in model.modules():
        row = rows.get(module)
        spec = row.spec if row is not None and row.becomes else None
        for parameter in module._parameters.values():
            uses.setdefault(id(parameter), set()).add(spec)
    for layer, row in rows.items():
        # A weight has one D; a layer without it would change when the others are folded.
        if row.becomes and len(uses[id(layer.weight)]) > 1:
            reason = "its weight is shared with a layer that is left"
            yield layer, replace(row, becomes=None, reason=reason)
        else:
            yield layer, row


def _each_alone(
    model: nn.Module, where: Where | Choice | None, d_mul: DMul, composition: str
) -> Iterator[tuple[Any, Row]]:
    """What would become of each convolution if no other shared its weight."""
    place = 0
    for name, layer in model.named_modules():
        if not isinstance(layer, _ConvNd):
            continue
        kind, reason = type(layer).__name__, _reason(layer)
        spec = None if isinstance(layer, Composed) else _spec(layer, None)
        if reason is None and spec is not None:
            if chosen(where, name, layer, spec, place):
                spec = _spec(layer, d_mul)
            else:
                reason = "not chosen"
        becomes = None if reason else _class_for(type(layer)).__name__
        count = sum(p.numel() for p in layer.parameters(recurse=False) if not is_lazy(p))
        way = "kernel" if becomes and issubclass(_class_for(type(layer)), Served) else composition
        yield layer, Row(name, kind, becomes, reason, count, spec, composition=way)
        place += 1


def _reason(layer: Any) -> str | None:
    """Why a convolution has to be left, or None."""
    if isinstance(layer, Composed):
        return "has a depthwise kernel already"
    if "weight" not in layer._parameters:
        return "its weight is computed from other parameters"
    if not _spec(layer, None).has_delta:
        return "its kernel has one position"
    kind = type(layer)
    if kind.__module__.startswith("torch.ao."):
        return "it is prepared for quantisation"
    if kind not in _OURS and not reads_weight(kind):
        return "its forward pass does not read its weight"
    return None


def _class_for(kind: Any) -> Any:
    return _OURS[kind] if kind in _OURS else served_class(kind)


def _spec(layer: Any, d_mul: DMul) -> Spec:
    """The sizes of a plain layer; a lazy one knows only its output channels."""
    make = Spec.of_transposed if layer.transposed else Spec
    sizes = (layer.in_channels or None, layer.out_channels, layer.kernel_size, layer.groups)
    return make(*sizes, d_mul(make(*sizes)) if callable(d_mul) else d_mul)


def _convert_layer(
    layer: Any, row: Row, start: str, deltas: dict[tuple[int, Spec], nn.Parameter]
) -> None:
    """Give a layer its D'; layers with one W between them share one D', and stay tied."""
    spec, weight = row.spec, layer.weight
    assert spec is not None
    layer.__class__ = _class_for(type(layer))
    layer.spec, layer.composition, layer.depthwise_init = spec, row.composition, start
    tied = (id(weight), spec)
    if tied not in deltas:
        deltas[tied] = _new_delta(weight, spec, start)
        if not is_lazy(weight) and not spec.has_plain_weight:
            weight.data, weight.grad = weight_for(weight.detach(), spec), None
    layer.register_parameter("depthwise_delta", deltas[tied])


def _new_delta(weight: Tensor, spec: Spec, start: str) -> nn.Parameter:
    options: dict[str, Any] = {"device": weight.device, "dtype": weight.dtype}
    if is_lazy(weight):
        return UninitializedParameter(**options)  # type: ignore[return-value]
    delta = nn.Parameter(torch.empty(spec.delta_shape, **options), weight.requires_grad)
    start_delta(delta, start, spec)
    return delta


@torch.no_grad()
def _positions(model: nn.Module, input_shape: tuple[int, ...]) -> dict[nn.Module, tuple[int, ...]]:
    """The spatial size of each convolution's output; of a transposed one's, of its input."""
    sizes: dict[nn.Module, tuple[int, ...]] = {}

    def keep(layer: Any, given: Any, out: Tensor) -> None:
        read = given[0] if layer.transposed else out
        sizes[layer] = tuple(read.shape[-len(layer.kernel_size) :])

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
