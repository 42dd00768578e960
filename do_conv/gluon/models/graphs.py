"""Convolutions inside of symbolic graphs, whose kernels are parameters of a `SymbolBlock`."""

from __future__ import annotations

import json
import math
from ast import literal_eval
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from mxnet.gluon import SymbolBlock, nn

from do_conv.core.spec import Spec
from do_conv.gluon.models.classes import class_for
from do_conv.gluon.plain import first
from do_conv.models import reasons
from do_conv.models.decisions import Convolution, Description

_TRANSPOSED = {"Convolution": False, "Deconvolution": True}


@dataclass(frozen=True, eq=False)
class Operator:
    """An operator of a graph.

    Attributes:
        name: its name in the graph.
        kind: such as "Convolution".
        options: as the graph writes them.
        inputs: the parameters it reads, each at its place; None for other arrays.
    """

    name: str
    kind: str
    options: dict[str, str]
    inputs: list[Any]

    @property
    def weight(self) -> Any:
        """The kernel of a convolution; None if it is computed."""
        return self.inputs[1]


def opened(outside: Description) -> Description:
    """A description of a network with the convolutions inside of graphs in place of the graphs."""
    operators = {
        id(block): list(_operators(block))
        for block, _ in outside.holders
        if isinstance(block, SymbolBlock)
    }
    convolutions: list[Convolution] = []
    for one in outside.convolutions:
        inside = operators.get(id(one.layer))
        convolutions += [one] if inside is None else _convolutions(one.name, inside)
    holders = [(block, held) for block, held in outside.holders if id(block) not in operators]
    for inside in operators.values():
        holders += [(one, [p for p in one.inputs if p is not None]) for one in inside]
    return Description(convolutions, outside.parameters, holders)


def _operators(block: Any) -> Iterator[Operator]:
    nodes = json.loads(block._cached_graph[1].tojson())["nodes"]
    for node in nodes:
        if node["op"] != "null":
            names = [nodes[entry[0]]["name"] for entry in node["inputs"]]
            inputs = [block.params.get(name) if name in block.params else None for name in names]
            yield Operator(node["name"], node["op"], node.get("attrs", {}), inputs)


def _convolutions(block: str, operators: list[Operator]) -> Iterator[Convolution]:
    for one in operators:
        if one.kind in _TRANSPOSED:
            reason = _reason(one)
            yield Convolution(
                f"{block}.{one.name}" if block else one.name,
                one,
                reason,
                sum(math.prod(_shape(p)) for p in one.inputs if p is not None),
                spec_of=None if reason else partial(_spec_of, one),
                becomes=None if reason else _class_for(one),
                kernel_only=True,
                weight=one.weight,
            )


def _reason(operator: Operator) -> str | None:
    """Why the kernel of a convolution has to be left, or None."""
    if operator.weight is None:
        return reasons.COMPUTED_WEIGHT
    if math.prod(literal_eval(operator.options["kernel"])) == 1:
        return reasons.ONE_POSITION
    layout = operator.options.get("layout", "None")
    return None if layout == "None" or layout.startswith("NC") else reasons.layout(layout)


def _spec_of(operator: Operator, d_mul: int | None) -> Spec:
    """The sizes of a convolution, of which the input's channels may not be known yet."""
    options, transposed = operator.options, _TRANSPOSED[operator.kind]
    groups, shape = int(options.get("num_group", 1)), _shape(operator.weight)
    inputs = shape[0] if transposed else shape[1] * groups
    known = inputs if inputs > 0 else None
    kernel = literal_eval(options["kernel"])
    return Spec(known, int(options["num_filter"]), kernel, groups, d_mul, transposed)


def _shape(parameter: Any) -> tuple[int, ...]:
    """The shape of a parameter; one that was read from a file knows it by its values only."""
    if parameter._data is not None:
        return tuple(first(parameter).shape)
    return parameter.shape or (0, 0)


def _class_for(operator: Operator) -> Any:
    """The layer that does the same as a convolution with W and D'."""
    rank = len(literal_eval(operator.options["kernel"]))
    suffix = "Transpose" if _TRANSPOSED[operator.kind] else ""
    return class_for(getattr(nn, f"Conv{rank}D{suffix}"))
