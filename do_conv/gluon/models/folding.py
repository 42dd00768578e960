"""Folding whole networks: no trace of us is left."""

from __future__ import annotations

from typing import Any

import numpy as np

from do_conv.core import rules
from do_conv.gluon.base import Composed, OverParameterized
from do_conv.gluon.models.copies import copied, named_blocks
from do_conv.gluon.plain import first


def fold(model: Any, *, check_finite: bool = True) -> Any:
    """The plain network that does the same.

    Args:
        model: a block that holds layers of ours, or one such layer.
        check_finite: False folds parameters that hold NaN or infinity, too.

    Returns:
        a new network; `model` stays as it is. A separable layer becomes the `HybridSequential` of
        two layers that its own `fold` gives.

    Raises:
        DOConvError: if it holds no layer of ours, one has no parameters yet, or a kernel is not
            finite.
    """
    ours = [block for _, block in named_blocks(model) if isinstance(block, Composed)]
    rules.something_to_fold(len(ours), type(model).__name__)
    pairs: dict[int, Any] = {}
    for layer in ours:
        if isinstance(layer, OverParameterized):
            _check(layer, check_finite)
        else:
            pairs[id(layer)] = _pair(layer, check_finite)
    folded, copy_of = copied(model, pairs)
    done: set[int] = set()
    for layer in ours:
        if id(layer) not in pairs:
            _fold_layer(copy_of[id(layer)], done)
    return folded


def _fold_layer(layer: Any, done: set[int]) -> None:
    """Turn a layer into one of its plain class.

    `done` holds the W that are kernels already: several layers may share one.
    """
    weight, delta = layer.weight, layer.depthwise_delta
    if delta is not None:
        if id(weight) not in done:
            kernel = layer.composed_weight(weight.list_ctx()[0])
            # The shape can be set to one that fits the old one only.
            weight._shape = kernel.shape
            weight._init_impl(kernel, weight.list_ctx())
            done.add(id(weight))
        del layer._reg_params["depthwise_delta"], layer.params._params[delta.name]
    for ours in ("depthwise_delta", "_spec", "composition", "depthwise_init"):
        del layer.__dict__[ours]
    layer.__class__ = layer._plain


def _pair(layer: Any, check_finite: bool) -> Any:
    """What takes the place of a separable layer, hybridized as that is."""
    pair = layer.fold(check_finite=check_finite)
    for _, block in named_blocks(pair):
        for name in ("_active", "_flags", "_backend", "_backend_opts"):
            setattr(block, name, getattr(layer, name))
    return pair


def _check(layer: Any, check_finite: bool) -> None:
    """Refuse what cannot be folded."""
    layer._settle()
    kernel = layer.composed_weight(layer.weight.list_ctx()[0])
    for name, array in (("weight", kernel), ("bias", first(layer.bias))):
        if check_finite and array is not None:
            rules.finite(name, bool(np.isfinite(array.asnumpy()).all()))
