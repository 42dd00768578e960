"""Converting whole models.

A layer is converted where it stands: its class changes, and D' is added. So its name, mode, hooks
and parameters stay the same objects, modules that are shared stay shared, weights that are tied
stay tied, and an optimizer keeps what it knows of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter, is_lazy

from do_conv.core import rules
from do_conv.core.rules import CompositionName, DepthwiseInit
from do_conv.core.spec import Spec
from do_conv.models import checks
from do_conv.models.choices import Where
from do_conv.models.decisions import DMul
from do_conv.models.plan import Row
from do_conv.torch.layout import laid_out_like
from do_conv.torch.models.classes import class_for
from do_conv.torch.models.copies import copied
from do_conv.torch.models.folding import ModelT, fold_inside
from do_conv.torch.models.guards import guard
from do_conv.torch.models.planning import decisions
from do_conv.torch.models.sharding import is_sharded
from do_conv.torch.models.wrappers import unwrapped
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
def convert(  # what `torch.compile` returns, by its annotation
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
    checks.whole_parameters(
        is_sharded(model), type(model).__name__, "convert it before fully_shard"
    )
    decided = decisions(model, where, d_mul, composition)
    left = [row.reason for _, row in decided if row.becomes is None]
    checks.something_to_convert(left, len(decided))
    made = model if inplace else copied(model)
    # `where` has seen the person's own layers; a copy holds its own in the same order.
    own = dict(zip(model.modules(), made.modules(), strict=True))
    deltas: dict[tuple[int, Spec], nn.Parameter] = {}
    for layer, row in decided:
        if row.becomes:
            _convert_layer(own[layer], row, start, deltas)
    guard(made, fold_inside)
    return made


def _convert_layer(
    layer: Any, row: Row, start: DepthwiseInit, deltas: dict[tuple[int, Spec], nn.Parameter]
) -> None:
    """Give a layer its D'; layers with one W between them share one D', and stay tied."""
    spec, weight = row.spec, layer.weight
    assert spec is not None
    layer.__class__ = class_for(type(layer))
    layer.spec, layer.composition, layer.depthwise_init = spec, row.composition, start
    tied = (id(weight), spec)
    if tied not in deltas:
        deltas[tied] = _new_delta(weight, spec, start)
        if not is_lazy(weight) and not spec.has_plain_weight:
            weight.data, weight.grad = weight_for(weight.detach(), spec), None
        if start != "identity":
            weight.grad = None  # the gradient of a kernel that is no longer W alone
    layer.register_parameter("depthwise_delta", deltas[tied])


def _new_delta(weight: Tensor, spec: Spec, start: DepthwiseInit) -> nn.Parameter:
    options: dict[str, Any] = {"device": weight.device, "dtype": weight.dtype}
    if is_lazy(weight):
        return UninitializedParameter(requires_grad=weight.requires_grad, **options)  # type: ignore[return-value]
    empty = torch.empty(spec.delta_shape, **options)
    if not spec.has_plain_weight:  # W loses its spatial axes, and with them its memory format
        empty = laid_out_like(empty, weight)
    delta = nn.Parameter(empty, weight.requires_grad)
    start_delta(delta, start, spec)
    return delta
