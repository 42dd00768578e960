"""Converting whole networks.

A layer is converted where it stands in a copy of the network: its class changes, and D' is added.
So its names, parameters and hooks stay, and blocks and parameters that are shared stay shared.
"""

from __future__ import annotations

from typing import Any, TypeVar

from do_conv.core import rules
from do_conv.core.rules import CompositionName, DepthwiseInit
from do_conv.core.spec import Spec
from do_conv.gluon.models.classes import class_for
from do_conv.gluon.models.copies import copied
from do_conv.gluon.models.planning import described
from do_conv.gluon.plain import first
from do_conv.gluon.starts import DeltaStart, weight_for
from do_conv.models.choices import Where
from do_conv.models.decisions import DMul, to_convert
from do_conv.models.plan import Row
from do_conv.models.sharing import sharing

ModelT = TypeVar("ModelT")


def convert(
    model: ModelT,
    *,
    where: Where = None,
    d_mul: DMul = None,
    depthwise_init: DepthwiseInit = "identity",
    composition: CompositionName = "kernel",
) -> ModelT:
    """Over-parameterize the convolutions of a network, or a bare convolution.

    With the identity start the outputs stay what they are, to the last bit. Weights, names, dtype,
    contexts, hooks, `grad_req`, `lr_mult` and `wd_mult` stay; D' takes the last three of its
    weight. A network that has not seen an input stays so, and a hybridized one stays hybridized.

    Args:
        model: a block.
        where: which layers: a function of a layer's name and the layer, a regular expression that
            is searched for in the name, or a choice of `do_conv.choices`; None is all that can be.
            A name is that of parameter files.
        d_mul: D_mul, at least |K|, the default; or a function of a layer's `Spec`.
        depthwise_init: "identity" or "he" (Table 7), which changes the outputs.
        composition: "kernel" or "feature"; subclasses with a forward pass of their own take
            "kernel" only.

    Returns:
        a new network; `model` stays as it is.

    Raises:
        DOConvError: if there is nothing to convert, or an option breaks a rule.
    """
    start = rules.depthwise_init(depthwise_init)
    rows = to_convert(described(model), where, d_mul, composition)
    converted, copy_of = copied(model)
    layers = [_over_parameterized(copy_of[id(layer)], row, start) for layer, row in rows]
    for tied in sharing(layers, "weight"):
        delta = _started(tied[0])
        for layer in tied:
            layer.params.update({delta.name: delta})
            layer.depthwise_delta = delta
    return converted


def _over_parameterized(layer: Any, row: Row, start: DepthwiseInit) -> Any:
    """The layer itself, as a DO-Conv layer that has no D' yet."""
    layer.__class__ = class_for(type(layer))
    layer._spec, layer.composition, layer.depthwise_init = row.spec, row.composition, start
    return layer


def _started(layer: Any) -> Any:
    """A new D' for a layer, whose W is brought to the shape for its D_mul.

    D' is as far as W is: with values, waiting for an input, or neither.
    """
    spec, weight = layer._spec, layer.weight
    start = DeltaStart(layer.depthwise_init, spec.kernel_size, spec.d_mul)
    delta = layer._parameter("depthwise_delta", spec.delta_shape, start)
    delta.cast(weight.dtype)
    for name in ("grad_req", "lr_mult", "wd_mult"):
        setattr(delta, name, getattr(weight, name))
    if weight._data is not None or weight._deferred_init:
        delta.initialize(ctx=weight.list_ctx())
    if not spec.has_plain_weight:
        _widen(weight, spec)
    return delta


def _widen(weight: Any, spec: Spec) -> None:
    """Bring W, and its values if there are any, to the shape for a D_mul."""
    value = None if weight._data is None else weight_for(first(weight), spec)
    # Gluon accepts only a shape that is compatible with the old one.
    weight._shape = tuple(size or 0 for size in spec.weight_shape)
    if value is not None:
        weight._init_impl(value, weight.list_ctx())
