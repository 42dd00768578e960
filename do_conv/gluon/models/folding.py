"""Folding whole networks: the result does not depend on do_conv."""

from __future__ import annotations

import copy
from typing import Any, TypeVar, overload

import numpy as np

from do_conv.core import rules
from do_conv.gluon.base import Composed, OverParameterized
from do_conv.gluon.models.copies import copied
from do_conv.gluon.models.structure import holders, named_layers
from do_conv.gluon.plain import first, wait_for_parameters
from do_conv.models import checks
from do_conv.models.folds import Folds
from do_conv.models.sharing import composed_kernels

PlainT = TypeVar("PlainT")
ModelT = TypeVar("ModelT")


@overload
def fold(model: Folds[PlainT], *, check_finite: bool = True) -> PlainT: ...
@overload
def fold(model: ModelT, *, check_finite: bool = True) -> ModelT: ...
def fold(model: Any, *, check_finite: bool = True) -> Any:
    """The plain network that does the same.

    Args:
        model: a block that holds DO-Conv layers, or one such layer.
        check_finite: False folds parameters that hold NaN or infinity, too.

    Returns:
        a new network; `model` stays as it is. A separable layer becomes the `HybridSequential` of
        two layers that its own `fold` gives. Layers that share parameters share them afterwards,
        but a layer that shares its W with a plain one gets a weight of its own.

    Raises:
        DOConvError: if it holds no DO-Conv layer, one has no parameters yet or is of a subclass
            with a forward pass of its own, or a kernel is not finite.
    """
    ours = [layer for _, layer in named_layers(model) if isinstance(layer, Composed)]
    checks.something_to_fold(len(ours), type(model).__name__)
    pairs: dict[int, Any] = {}
    shared: dict[int, Any] = {}
    for layer in ours:
        if isinstance(layer, OverParameterized):
            _check(layer, check_finite)
        else:
            pairs[id(layer)] = _pair(layer, check_finite)
            _tie(layer, pairs[id(layer)], shared)
    folded, _ = copied(model, pairs)
    layers = [layer for _, layer in named_layers(folded) if isinstance(layer, OverParameterized)]
    for tied, may_change in composed_kernels(layers, holders(folded)):
        weight = _kernel(tied[0], may_change)
        for layer in tied:
            _replace(layer, "weight", weight)
    for layer in layers:
        _become_plain(layer)
    return folded


def _kernel(layer: Any, may_change: bool) -> Any:
    """The composed kernel of a layer: its W, or a new parameter where W has to stay."""
    weight = layer.weight
    kernel, contexts = layer.composed_weight(weight.list_ctx()[0]), weight.list_ctx()
    if not may_change:
        weight = copy.copy(weight)
        weight._var, weight.name = None, f"{layer.prefix}weight"
    # Gluon accepts only a shape that is compatible with the old one.
    weight._shape = kernel.shape
    weight._init_impl(kernel, contexts)
    return weight


def _become_plain(layer: Any) -> None:
    """Turn a layer with its kernel in `weight` into one of its plain class."""
    if layer.depthwise_delta is not None:
        del layer._reg_params["depthwise_delta"], layer.params._params[layer.depthwise_delta.name]
    for name in ("depthwise_delta", "_spec", "composition", "depthwise_init"):
        del layer.__dict__[name]
    layer.__class__ = layer._plain


def _replace(layer: Any, name: str, parameter: Any) -> None:
    """Give a layer another parameter, which Gluon allows while a layer is made only."""
    old, held = layer._reg_params[name], layer.params._params
    new = [parameter if value is old else value for value in held.values()]
    held.clear()
    held.update((value.name, value) for value in new)
    layer._reg_params[name] = layer.__dict__[name] = parameter


def _pair(layer: Any, check_finite: bool) -> Any:
    """The two layers that take the place of a separable one, hybridized as that is."""
    pair = layer.fold(check_finite=check_finite)
    for _, block in named_layers(pair):
        for name in ("_active", "_flags", "_backend", "_backend_opts"):
            setattr(block, name, getattr(layer, name))
    return pair


def _tie(layer: Any, pair: Any, shared: dict[int, Any]) -> None:
    """Let pairs share what their separable layers share.

    `shared` holds a pair's parameter for each parameter of the separable layers, by its `id`.
    """
    depthwise, pointwise = pair
    for parameter, new, name in (
        (layer.depthwise_weight, depthwise, "weight"),
        (layer.weight, pointwise, "weight"),
        (layer.bias, pointwise, "bias"),
    ):
        if parameter is not None:
            _replace(new, name, shared.setdefault(id(parameter), new._reg_params[name]))


def _check(layer: Any, check_finite: bool) -> None:
    """Refuse a layer that cannot be folded."""
    wait_for_parameters(layer)
    layer.check_forward()
    kernel = layer.composed_weight(layer.weight.list_ctx()[0])
    for name, array in (("weight", kernel), ("bias", first(layer.bias))):
        if check_finite and array is not None:
            rules.finite(name, bool(np.isfinite(array.asnumpy()).all()))
