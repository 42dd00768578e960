"""Folding whole networks: no trace of us is left."""

from __future__ import annotations

import copy
from typing import Any, TypeVar, overload

import numpy as np

from do_conv.core import rules
from do_conv.gluon.base import Composed, OverParameterized
from do_conv.gluon.models.copies import copied, named_blocks
from do_conv.gluon.plain import first, wait_for_parameters
from do_conv.models import checks
from do_conv.models.folds import Folds

PlainT = TypeVar("PlainT")
ModelT = TypeVar("ModelT")


@overload
def fold(model: Folds[PlainT], *, check_finite: bool = True) -> PlainT: ...
@overload
def fold(model: ModelT, *, check_finite: bool = True) -> ModelT: ...
def fold(model: Any, *, check_finite: bool = True) -> Any:
    """The plain network that does the same.

    Args:
        model: a block that holds layers of ours, or one such layer.
        check_finite: False folds parameters that hold NaN or infinity, too.

    Returns:
        a new network; `model` stays as it is. A separable layer becomes the `HybridSequential` of
        two layers that its own `fold` gives. Layers that share parameters share them afterwards,
        but a layer that shares its W with a plain one gets a weight of its own.

    Raises:
        DOConvError: if it holds no layer of ours, one has no parameters yet, or a kernel is not
            finite.
    """
    ours = [block for _, block in named_blocks(model) if isinstance(block, Composed)]
    checks.something_to_fold(len(ours), type(model).__name__)
    pairs: dict[int, Any] = {}
    made: dict[int, Any] = {}
    for layer in ours:
        if isinstance(layer, OverParameterized):
            _check(layer, check_finite)
        else:
            pairs[id(layer)] = _pair(layer, check_finite)
            _tie(layer, pairs[id(layer)], made)
    folded, copy_of = copied(model, pairs)
    others = [block for _, block in named_blocks(folded) if not isinstance(block, Composed)]
    foreign = {id(parameter) for one in others for parameter in one._reg_params.values()}
    kernels: dict[int, Any] = {}
    for layer in ours:
        if id(layer) not in pairs:
            _fold_layer(copy_of[id(layer)], kernels, foreign)
    return folded


def _fold_layer(layer: Any, kernels: dict[int, Any], foreign: set[int]) -> None:
    """Turn a layer into one of its plain class.

    `kernels` holds what each W has become, since several layers may share one; `foreign` those that
    a layer without a D reads, too, and that have to stay.
    """
    weight, delta = layer.weight, layer.depthwise_delta
    if delta is not None:
        if id(weight) not in kernels:
            kernel, contexts = layer.composed_weight(weight.list_ctx()[0]), weight.list_ctx()
            made = weight
            if id(weight) in foreign:
                made = copy.copy(weight)
                made._var, made.name = None, f"{layer.prefix}weight"
            # The shape can be set to one that fits the old one only.
            made._shape = kernel.shape
            made._init_impl(kernel, contexts)
            kernels[id(weight)] = made
        _replace(layer, "weight", kernels[id(weight)])
        del layer._reg_params["depthwise_delta"], layer.params._params[delta.name]
    for ours in ("depthwise_delta", "_spec", "composition", "depthwise_init"):
        del layer.__dict__[ours]
    layer.__class__ = layer._plain


def _replace(layer: Any, name: str, parameter: Any) -> None:
    """Give a layer another parameter, which Gluon allows while a layer is made only."""
    old, held = layer._reg_params[name], layer.params._params
    kept = [parameter if one is old else one for one in held.values()]
    held.clear()
    held.update((one.name, one) for one in kept)
    layer._reg_params[name] = layer.__dict__[name] = parameter


def _pair(layer: Any, check_finite: bool) -> Any:
    """What takes the place of a separable layer, hybridized as that is."""
    pair = layer.fold(check_finite=check_finite)
    for _, block in named_blocks(pair):
        for name in ("_active", "_flags", "_backend", "_backend_opts"):
            setattr(block, name, getattr(layer, name))
    return pair


def _tie(layer: Any, pair: Any, made: dict[int, Any]) -> None:
    """Share what two separable layers share: `made` has what their parameters have become."""
    depthwise, pointwise = pair
    for parameter, new, name in (
        (layer.depthwise_weight, depthwise, "weight"),
        (layer.weight, pointwise, "weight"),
        (layer.bias, pointwise, "bias"),
    ):
        if parameter is not None:
            _replace(new, name, made.setdefault(id(parameter), new._reg_params[name]))


def _check(layer: Any, check_finite: bool) -> None:
    """Refuse what cannot be folded."""
    wait_for_parameters(layer)
    kernel = layer.composed_weight(layer.weight.list_ctx()[0])
    for name, array in (("weight", kernel), ("bias", first(layer.bias))):
        if check_finite and array is not None:
            rules.finite(name, bool(np.isfinite(array.asnumpy()).all()))
