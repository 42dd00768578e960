"""The plan of a conversion: which layers become ours, which are left and why, and the cost."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import mxnet as mx
from mxnet import autograd
from mxnet.gluon import Constant, SymbolBlock
from mxnet.gluon.nn.conv_layers import _Conv

from do_conv.core import rules
from do_conv.core.rules import CompositionName, Door
from do_conv.core.spec import Shape
from do_conv.gluon.base import Composed
from do_conv.gluon.models.classes import (
    OwnForward,
    class_for,
    is_transposed,
    plain_base,
    reads_weight,
    spec_of,
)
from do_conv.gluon.models.copies import copied
from do_conv.gluon.models.graphs import opened
from do_conv.gluon.models.structure import holders, named_layers
from do_conv.models import reasons
from do_conv.models.choices import Where, about
from do_conv.models.decisions import Convolution, Description, DMul, planned
from do_conv.models.plan import Plan


def plan(
    model: Any,
    *,
    input_shape: tuple[int, ...] | None = None,
    where: Where = None,
    d_mul: DMul = None,
    composition: CompositionName = "kernel",
    door: Door = "layers",
) -> Plan:
    """Plan training with these options; `str` of the plan is a table.

    Args:
        model: a block.
        input_shape: of the batch `(N, C, *size)` to count multiply-accumulates for; a copy of the
            network is run on it once, on zeros, and sizes that were not known yet are those it
            sees. Without it multiply-accumulates are not counted.
        where, d_mul, composition: as for `convert`.
        door: "layers" for W and D' in layers, as `convert` makes them, or "optimizer" for W and D'
            in a `DOConvTrainer`.

    Raises:
        DOConvError: if an option breaks a rule.
    """
    positions: dict[int, list[Shape]] = {}
    if input_shape is not None:
        where = about(where, dict(named_layers(model)))
        model, positions = _positions(model, input_shape)
    batch = 1 if input_shape is None else input_shape[0]
    found = described(model) if rules.door(door) == "layers" else described_in_place(model)
    return planned(found, where, d_mul, composition, positions, batch, door)


def described(model: Any) -> Description:
    """A network's convolutions, each once, and its parameters."""
    return _described(model, _reason, class_for)


def described_in_place(model: Any) -> Description:
    """`described` where the layers stay: convolutions in graphs, and any forward pass, will do."""
    return opened(_described(model, _reason_for_kernel, lambda kind: kind))


def _described(
    model: Any, reason_for: Callable[[Any], str | None], becomes: Callable[[type], type]
) -> Description:
    convolutions = list(_convolutions(model, reason_for, becomes))
    return Description(convolutions, _count(model.collect_params().values()), holders(model))


def _convolutions(
    model: Any, reason_for: Callable[[Any], str | None], becomes: Callable[[type], type]
) -> Iterator[Convolution]:
    for name, layer in named_layers(model):
        if isinstance(layer, SymbolBlock):
            hidden, count = _hidden(layer)
            if hidden:
                hides = reasons.hidden(hidden)
                yield Convolution(name, layer, hides, count, None, None, count=hidden)
        elif isinstance(layer, _Conv):
            reason = reason_for(layer)
            ours = None if reason else becomes(type(layer))
            yield Convolution(
                name,
                layer,
                reason,
                _count(layer._reg_params.values()),
                spec_of=partial(spec_of, layer) if _is_plain(layer) else None,
                becomes=ours,
                kernel_only=ours is not None and issubclass(ours, OwnForward),
                weight=layer._reg_params.get("weight"),
            )


def _reason(layer: Any) -> str | None:
    """Why a convolution has to be left, or None."""
    is_read = plain_base(type(layer)) is not None and reads_weight(layer)
    return _reason_for_kernel(layer) or (None if is_read else reasons.UNREAD_WEIGHT)


def _reason_for_kernel(layer: Any) -> str | None:
    """Why the kernel of a convolution cannot have a D', or None."""
    if isinstance(layer, Composed):
        return reasons.HAS_DEPTHWISE
    if "weight" not in layer._reg_params:
        return reasons.COMPUTED_WEIGHT
    if math.prod(layer._kwargs["kernel"]) == 1:
        return reasons.ONE_POSITION
    return None if _is_plain(layer) else reasons.layout(layer._kwargs["layout"])


def _is_plain(layer: Any) -> bool:
    """Whether a convolution's parameters have the shapes that its sizes can be read from."""
    return not isinstance(layer, Composed) and (
        "weight" in layer._reg_params and layer._kwargs["layout"].startswith("NC")
    )


def _hidden(block: Any) -> tuple[int, int]:
    """How many convolutions a symbolic graph holds, and how many parameters they have."""
    nodes = json.loads(block._cached_graph[1].tojson())["nodes"]
    inside = [node for node in nodes if node["op"] in ("Convolution", "Deconvolution")]
    names = {nodes[entry[0]]["name"] for node in inside for entry in node["inputs"]}
    return len(inside), _count(p for n, p in block.params.items() if n in names)


def _count(parameters: Iterable[Any]) -> int:
    """How many numbers can be trained; a parameter of unknown shape counts as none."""
    different = {id(p): p for p in parameters if p._differentiable and p.shape}
    return sum(math.prod(p.shape) for p in different.values() if min(p.shape) > 0)


def _positions(model: Any, input_shape: tuple[int, ...]) -> tuple[Any, dict[int, list[Shape]]]:
    """A copy that has seen an input, and the sizes of its convolutions' outputs.

    They are the spatial sizes, of a transposed layer's input, by the `id` of the copy's layer.
    """
    model, _ = copied(model)
    sizes: dict[int, list[Shape]] = {}

    def keep(layer: Any, given: Any, out: Any) -> None:
        read = given[0] if is_transposed(layer) else out
        sizes.setdefault(id(layer), []).append(tuple(read.shape[2:]))

    for _, block in named_layers(model):
        block._active = False  # otherwise the cached graph runs instead of the layers
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
