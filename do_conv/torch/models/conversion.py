"""Converting whole models.

A layer is converted where it stands: its class changes, and D' is added. So its name, mode, hooks
and parameters stay the same objects, modules that are shared stay shared, weights that are tied
stay tied, and an optimizer keeps what it knows of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast, overload

import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter, is_lazy

from do_conv.core import rules
from do_conv.core.rules import CompositionName, DepthwiseInit
from do_conv.models.choices import Where
from do_conv.models.decisions import DMul, to_convert
from do_conv.models.plan import Row
from do_conv.models.sharing import sharing
from do_conv.torch.layout import laid_out_like
from do_conv.torch.models.classes import class_for
from do_conv.torch.models.copies import copied
from do_conv.torch.models.folding import ModelT, fold_inside
from do_conv.torch.models.guards import guard
from do_conv.torch.models.planning import described
from do_conv.torch.models.sharding import check_whole
from do_conv.torch.models.structure import unwrapped
from do_conv.torch.starts import start_delta, weight_for


@overload
def convert(
    model: nn.DataParallel[ModelT],
    *,
    where: Where = None,
    inplace: bool = False,
    d_mul: DMul = None,
    depthwise_init: DepthwiseInit = "identity",
    composition: CompositionName = "kernel",
) -> ModelT: ...
@overload
def convert(
    model: nn.parallel.DistributedDataParallel,
    *,
    where: Where = None,
    inplace: bool = False,
    d_mul: DMul = None,
    depthwise_init: DepthwiseInit = "identity",
    composition: CompositionName = "kernel",
) -> Any: ...
@overload
def convert(
    model: ModelT,
    *,
    where: Where = None,
    inplace: bool = False,
    d_mul: DMul = None,
    depthwise_init: DepthwiseInit = "identity",
    composition: CompositionName = "kernel",
) -> ModelT: ...
@overload
def convert(  # the annotated return type of `torch.compile`
    model: Callable[..., Any],
    *,
    where: Where = None,
    inplace: bool = False,
    d_mul: DMul = None,
    depthwise_init: DepthwiseInit = "identity",
    composition: CompositionName = "kernel",
) -> Any: ...
def convert(
    model: Any,
    *,
    where: Where = None,
    inplace: bool = False,
    d_mul: DMul = None,
    depthwise_init: DepthwiseInit = "identity",
    composition: CompositionName = "kernel",
) -> Any:
    """Over-parameterize the convolutions of a model, or a bare convolution.

    With the identity start the outputs stay what they are, to the last bit. Weights, names, mode,
    dtype, device, hooks and `requires_grad` stay; D' is trained if its `weight` is.

    Args:
        model: a module; of a wrapper (`DataParallel`, a compiled model), what it wraps.
        where: which layers: a function of a layer's name and the layer, a regular expression that
            is searched for in the name, or a choice of `do_conv.choices`; None is all that can be.
        inplace: convert `model` itself, not a copy. Its weights stay the same objects; where D_mul
            is not |K|, W is a new parameter.
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
    start, model = rules.depthwise_init(depthwise_init), unwrapped(model)
    check_whole(model, "convert it before fully_shard")
    rows = to_convert(described(model), where, d_mul, composition)
    converted = model if inplace else copied(model)
    # `where` was asked about the user's layers; the copy has its own in the same order.
    copy_of = dict(zip(model.modules(), converted.modules(), strict=True))
    layers = [_over_parameterized(copy_of[layer], row, start) for layer, row in rows]
    for tied in sharing(layers, "weight"):
        weight, delta = _started(tied[0])
        for layer in tied:
            layer.weight = weight
            layer.register_parameter("depthwise_delta", delta)
    guard(converted, fold_inside)
    return converted


def _over_parameterized(layer: Any, row: Row, start: DepthwiseInit) -> Any:
    """The layer itself, as a DO-Conv layer that has no D' yet."""
    layer.__class__ = class_for(type(layer))
    layer.spec, layer.composition, layer.depthwise_init = row.spec, row.composition, start
    return layer


def _started(layer: Any) -> tuple[nn.Parameter, nn.Parameter]:
    """W for a layer, and a new D'.

    W is the layer's weight, or a new parameter where it has another shape: an optimizer that knows
    the old one has a state of that shape.
    """
    spec, weight = layer.spec, cast("nn.Parameter", layer.weight)
    options: dict[str, Any] = {"device": weight.device, "dtype": weight.dtype}
    if is_lazy(weight):
        lazy: Any = UninitializedParameter(requires_grad=weight.requires_grad, **options)
        return weight, lazy
    empty = torch.empty(spec.delta_shape, **options)
    if not spec.has_plain_weight:  # without spatial axes W has no memory format
        empty = laid_out_like(empty, weight)
    delta = nn.Parameter(empty, weight.requires_grad)
    start_delta(delta, layer.depthwise_init, spec)
    if not spec.has_plain_weight:
        weight = nn.Parameter(weight_for(weight.detach(), spec), weight.requires_grad)
    if layer.depthwise_init != "identity":
        weight.grad = None  # the old gradient belongs to the plain kernel, not to W
    return weight, delta
