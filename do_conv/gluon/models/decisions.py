"""Which convolutions of a network are converted, and why others are left."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from mxnet.gluon import SymbolBlock
from mxnet.gluon.nn.conv_layers import _Conv

from do_conv.core.choices import Choice, Where, chosen
from do_conv.core.plan import Row
from do_conv.core.spec import Spec
from do_conv.gluon.base import Composed
from do_conv.gluon.models.copies import named_blocks
from do_conv.gluon.models.served import (
    Served,
    class_for,
    plain_base,
    reads_weight,
    spec_of,
)

# D_mul for all layers, or for the layer of a spec; None is |K|.
DMul = int | Callable[[Spec], int] | None


def decisions(
    model: Any, where: Where | Choice | None, d_mul: DMul, composition: str
) -> list[tuple[Any, Row]]:
    """Each convolution once, in the model's order, with what becomes of it.

    Raises:
        DOConvError: if `d_mul` breaks a rule.
    """
    found = list(_each(model, where, d_mul, composition))
    apart = _shared_with_others(model, found)
    reason = "its weight is shared with a layer that is left"
    return [
        (layer, replace(row, becomes=None, reason=reason) if id(layer) in apart else row)
        for layer, row in found
    ]


def _each(
    model: Any, where: Where | Choice | None, d_mul: DMul, composition: str
) -> Iterator[tuple[Any, Row]]:
    place = 0
    for name, layer in named_blocks(model):
        kind = type(layer).__name__
        if isinstance(layer, SymbolBlock):
            hidden, count = _hidden(layer)
            if hidden:
                what = f"a graph hides its {hidden} convolution{'' if hidden == 1 else 's'}"
                yield layer, Row(name, kind, None, what, count)
            place += hidden
        if not isinstance(layer, _Conv):
            continue
        reason = _reason(layer)
        spec = spec_of(layer, None) if _is_plain(layer) else None
        if reason is None and spec is not None:
            if chosen(where, name, layer, spec, place):
                spec = spec_of(layer, d_mul)
            else:
                reason = "not chosen"
        ours = None if reason else class_for(type(layer))
        way = "kernel" if ours and issubclass(ours, Served) else composition
        becomes = None if ours is None else ours.__name__
        count = parameter_count(layer._reg_params.values())
        yield layer, Row(name, kind, becomes, reason, count, spec, composition=way)
        place += 1


def _is_plain(layer: Any) -> bool:
    """Whether a convolution's parameters have the shapes that its sizes can be read from."""
    return not isinstance(layer, Composed) and (
        "weight" in layer._reg_params and layer._kwargs["layout"].startswith("NC")
    )


def _reason(layer: Any) -> str | None:
    """Why a convolution has to be left, or None."""
    if isinstance(layer, Composed):
        return "has a depthwise kernel already"
    if "weight" not in layer._reg_params:
        return "its weight is computed from other parameters"
    if math.prod(layer._kwargs["kernel"]) == 1:
        return "its kernel has one position"
    if plain_base(type(layer)) is None or not reads_weight(layer):
        return "its forward pass does not read its weight"
    return None if _is_plain(layer) else f"its layout is {layer._kwargs['layout']}"


def _shared_with_others(model: Any, found: list[tuple[Any, Row]]) -> set[int]:
    """The layers whose W something reads as a kernel, or as the W of other sizes."""
    converted = {id(layer): row.spec for layer, row in found if row.becomes}
    readers: dict[int, list[Any]] = defaultdict(list)
    for _, block in named_blocks(model):
        for parameter in block._reg_params.values():
            readers[id(parameter)].append(converted.get(id(block)))
    return {
        id(layer)
        for layer, row in found
        if row.becomes and any(spec != row.spec for spec in readers[id(layer.weight)])
    }


def _hidden(block: Any) -> tuple[int, int]:
    """How many convolutions a symbolic graph holds, and how many parameters they have."""
    nodes = json.loads(block._cached_graph[1].tojson())["nodes"]
    inside = [node for node in nodes if node["op"] in ("Convolution", "Deconvolution")]
    names = {nodes[entry[0]]["name"] for node in inside for entry in node["inputs"]}
    return len(inside), parameter_count(p for n, p in block.params.items() if n in names)


def parameter_count(parameters: Any) -> int:
    """The numbers that can be trained; a shape that is not known yet counts as none."""
    counted = {id(p): p for p in parameters if p._differentiable and p.shape}
    return sum(math.prod(p.shape) for p in counted.values() if min(p.shape) > 0)
