"""Converting whole networks, and saying what that would do.

A layer is converted where it stands in a copy of the network: its class changes, and D' is added.
So its names, parameters and hooks stay, and blocks and parameters that are shared stay shared.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import mxnet as mx
from mxnet import autograd
from mxnet.gluon import Constant
from mxnet.gluon.nn.conv_layers import _Conv

from do_conv.core import rules
from do_conv.core.choices import Choice, Where
from do_conv.core.plan import Plan, Row
from do_conv.core.spec import Spec
from do_conv.gluon.models.copies import copied, named_blocks
from do_conv.gluon.models.decisions import DMul, decisions, parameter_count
from do_conv.gluon.models.served import class_for, is_transposed
from do_conv.gluon.plain import first
from do_conv.gluon.starts import DeltaStart, weight_for


def convert(
    model: Any,
    *,
    where: Where | Choice | None = None,
    d_mul: DMul = None,
    depthwise_init: str = "identity",
    composition: str = "kernel",
) -> Any:
    """Over-parameterize the convolutions of a network, or a bare convolution.

    With the identity start the outputs stay what they are, to the last bit. Weights, names, dtype,
    contexts, hooks, `grad_req`, `lr_mult` and `wd_mult` stay; D' takes the last three of its
    weight. A network that has not seen an input stays so, and a hybridized one stays hybridized.

    Args:
        model: a block.
        where: which layers, as a function of a layer's name and the layer, or a choice of
            `do_conv.choices`; None is all that can be. A name is that of parameter files.
        d_mul: D_mul, at least |K|, the default; or a function of a layer's `Spec`.
        depthwise_init: "identity" or "he" (Table 7), which changes the outputs.
        composition: "kernel" or "feature"; subclasses with a forward pass of their own take
            "kernel" only.

    Returns:
        a new network; `model` stays as it is.

    Raises:
        DOConvError: if there is nothing to convert, or an option breaks a rule.
    """
    start, composition = rules.depthwise_init(depthwise_init), rules.composition(composition)
    found = decisions(model, where, d_mul, composition)
    left = [row.reason for _, row in found if row.becomes is None]
    rules.something_to_convert(left, len(found))
    made, copy_of = copied(model)
    deltas: dict[int, Any] = {}
    for layer, row in found:
        if row.becomes:
            _convert_layer(copy_of[id(layer)], row, start, deltas)
    return made


def plan(
    model: Any,
    *,
    input_shape: tuple[int, ...] | None = None,
    where: Where | Choice | None = None,
    d_mul: DMul = None,
    composition: str = "kernel",
) -> Plan:
    """What `convert` would do with these options; `str` of it is a table.

    Args:
        model: a block.
        input_shape: of the batch `(N, C, *size)` to count multiply-accumulates for; a copy of the
            network is run on it once, on zeros, and sizes that were not known yet are those it
            sees. Without it multiply-accumulates are not counted.
        where, d_mul, composition: as for `convert`.

    Raises:
        DOConvError: if an option breaks a rule.
    """
    positions: dict[int, tuple[int, ...]] = {}
    if input_shape is not None:
        model, positions = _run(model, input_shape)
    rows = tuple(
        replace(row, positions=positions.get(id(layer)))
        for layer, row in decisions(model, where, d_mul, rules.composition(composition))
    )
    parameters = parameter_count(model.collect_params().values())
    return Plan(rows, parameters, 1 if input_shape is None else input_shape[0])


def _convert_layer(layer: Any, row: Row, start: str, deltas: dict[int, Any]) -> None:
    """Give a layer its D'; layers with one W between them share one D'."""
    spec, weight = row.spec, layer.weight
    assert spec is not None
    layer.__class__ = class_for(type(layer))
    layer._spec, layer.composition, layer.depthwise_init = spec, row.composition, start
    if id(weight) not in deltas:
        deltas[id(weight)] = _new_delta(layer, spec, start)
        if not spec.has_plain_weight:
            _widen(weight, spec)
    delta = deltas[id(weight)]
    layer.params.update({delta.name: delta})
    layer.depthwise_delta = delta


def _new_delta(layer: Any, spec: Spec, start: str) -> Any:
    """D', as far as its weight is: with values, waiting for an input, or neither."""
    weight, init = layer.weight, DeltaStart(start, spec.kernel_size, spec.d_mul)
    delta = layer._parameter("depthwise_delta", spec.delta_shape, init)
    delta.cast(weight.dtype)
    for name in ("grad_req", "lr_mult", "wd_mult"):
        setattr(delta, name, getattr(weight, name))
    if weight._data is not None or weight._deferred_init:
        delta.initialize(ctx=weight.list_ctx())
    return delta


def _widen(weight: Any, spec: Spec) -> None:
    """Bring W to the shape for this D_mul, and its values, if there are any."""
    value = None if weight._data is None else weight_for(first(weight), spec)
    # The shape can be set to one that fits the old one only.
    weight._shape = tuple(size or 0 for size in spec.weight_shape)
    if value is not None:
        weight._init_impl(value, weight.list_ctx())


def _run(model: Any, input_shape: tuple[int, ...]) -> tuple[Any, dict[int, tuple[int, ...]]]:
    """A copy that has seen an input, and the spatial size of each convolution's output.

    Of a transposed convolution it is the size of its input.
    """
    model, _ = copied(model)
    sizes: dict[int, tuple[int, ...]] = {}

    def keep(layer: Any, given: Any, out: Any) -> None:
        read = given[0] if is_transposed(layer) else out
        sizes[id(layer)] = tuple(read.shape[2:])

    for _, block in named_blocks(model):
        block._active = False  # or a graph runs, and not the layers
        if isinstance(block, _Conv):
            block.register_forward_hook(keep)
    parameters = list(model.collect_params().values())
    for parameter in parameters:
        _prepare(parameter)
    like = next((p for p in parameters if p._differentiable), None)
    options = {} if like is None else {"dtype": like.dtype, "ctx": like.list_ctx()[0]}
    zeros = mx.np.zeros if mx.util.is_np_array() else mx.nd.zeros
    with autograd.pause(train_mode=False):
        model(zeros(input_shape, **options))
    return model, sizes


def _prepare(parameter: Any) -> None:
    """Let a parameter without values start at zero: no random number is drawn for a count."""
    if parameter._data is None:
        ctx = parameter.list_ctx() if parameter._deferred_init else None
        zero = None if isinstance(parameter, Constant) else mx.init.Zero()
        parameter.initialize(init=zero, ctx=ctx)
