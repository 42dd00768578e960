"""Decide which convolutions of a model are converted, from a framework's description of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from do_conv.core import rules
from do_conv.core.errors import broken
from do_conv.core.rules import CompositionName, Door
from do_conv.core.spec import Shape, Spec
from do_conv.models import reasons
from do_conv.models.choices import Where, chooser
from do_conv.models.plan import Plan, Row
from do_conv.models.sharing import Holders, readers
from do_conv.table import counted

# D_mul for all layers, or for the layer of a spec; None is |K|.
DMul = int | Callable[[Spec], int] | None


@dataclass(frozen=True)
class Convolution:
    """A convolution of a model, or a graph of operations with convolutions inside.

    Attributes:
        name: its path in the model; "" is the model itself.
        layer: the framework's layer.
        reason: why it stays plain, or None.
        parameters: their number, with the bias.
        spec_of: gives its sizes for a D_mul, None being |K|; None where they cannot be read.
        becomes: the class that would replace it; None if it stays plain.
        kernel_only: whether that class has kernel composition only.
        weight: its W, where a framework's layers can share one.
        count: the number of convolutions it stands for.
    """

    name: str
    layer: Any
    reason: str | None
    parameters: int
    spec_of: Callable[[int | None], Spec] | None
    becomes: type | None
    kernel_only: bool = False
    weight: Any = None
    count: int = 1


@dataclass(frozen=True)
class Description:
    """A model as its framework describes it.

    Attributes:
        convolutions: each once, in the model's order.
        parameters: their number in the whole model.
        holders: every layer of the model with the parameters it holds itself; empty where a
            framework's layers cannot share them.
    """

    convolutions: Sequence[Convolution]
    parameters: int
    holders: Holders = ()


def decisions(
    model: Description, where: Where, d_mul: DMul, composition: CompositionName
) -> list[tuple[Any, Row]]:
    """The convolutions of a model in its order, each with what becomes of it.

    Raises:
        DOConvError: if an option breaks a rule.
    """
    composition = rules.composition(composition)
    place, alone, chooses = 0, [], chooser(where)
    for layer in model.convolutions:
        alone.append((layer, _alone(layer, chooses, d_mul, composition, place)))
        place += layer.count
    return _together(alone, model.holders)


def to_convert(
    model: Description, where: Where, d_mul: DMul, composition: CompositionName
) -> list[tuple[Any, Row]]:
    """The layers of a model that `convert` replaces, each with what becomes of it.

    Raises:
        DOConvError: if no convolution can be converted, or an option breaks a rule.
    """
    decided = decisions(model, where, d_mul, composition)
    converted = [(layer, row) for layer, row in decided if row.becomes is not None]
    if not converted:
        left = [row.reason for _, row in decided]
        raise broken(
            "a model to convert must have a convolution that can be converted",
            _left(left) if left else "a model without convolutions",
            _instead(left),
        )
    return converted


def planned(
    model: Description,
    where: Where,
    d_mul: DMul,
    composition: CompositionName,
    positions: Mapping[int, Sequence[Shape]],
    batch: int,
    door: Door = "layers",
) -> Plan:
    """The plan of training with W and D' in layers or in the optimizer.

    `positions` holds those of each row, by the `id` of the layer.

    Raises:
        DOConvError: if an option breaks a rule.
    """
    if rules.door(door) == "optimizer" and composition != "kernel":
        raise broken(
            "W and D' in the optimizer are trained by kernel composition",
            f"composition={composition!r}",
            "leave it out, or train layers",
        )
    rows = (
        replace(row, positions=tuple(positions.get(id(layer), ())), door=door)
        for layer, row in decisions(model, where, d_mul, composition)
    )
    return Plan(tuple(rows), model.parameters, batch, door)


def _alone(
    convolution: Convolution,
    chooses: Callable[[str, Any, Spec, int], bool],
    d_mul: DMul,
    composition: CompositionName,
    place: int,
) -> Row:
    """The row of a convolution if no other layer shared its weight."""
    name, layer, spec_of = convolution.name, convolution.layer, convolution.spec_of
    reason, becomes = convolution.reason, convolution.becomes
    spec = None if spec_of is None else spec_of(None)
    if reason is None and spec is not None and spec_of is not None:
        if chooses(name, layer, spec, place):
            spec = spec_of(d_mul(spec) if callable(d_mul) else d_mul)
        else:
            reason = reasons.NOT_CHOSEN
    return Row(
        name,
        type(layer).__name__,
        None if reason or becomes is None else becomes.__name__,
        reason,
        convolution.parameters,
        spec,
        composition="kernel" if convolution.kernel_only else composition,
        kernel_only=convolution.kernel_only,
    )


def _together(alone: list[tuple[Convolution, Row]], holders: Holders) -> list[tuple[Any, Row]]:
    """Leave a weight that another layer reads as a kernel, or as the W of other sizes.

    A weight has one D; a layer without it would change when the others are folded.
    """
    converted = {id(convolution.layer): row.spec for convolution, row in alone if row.becomes}
    read_by = readers(holders)

    def decided(convolution: Convolution, row: Row) -> Row:
        specs = (converted.get(id(layer)) for layer in read_by[id(convolution.weight)])
        if row.becomes is None or all(spec == row.spec for spec in specs):
            return row
        return replace(row, becomes=None, reason=reasons.SHARED_WEIGHT)

    return [(convolution.layer, decided(convolution, row)) for convolution, row in alone]


def _left(left: Sequence[str | None]) -> str:
    """How many convolutions were left, and why."""
    different = dict.fromkeys(left)
    if len(different) == 1:
        each = "" if len(left) == 1 else "each "
        return f"{counted(len(left), 'convolution')}, {each}left because {left[0]}"
    listed = ", ".join(f"{reason} ({left.count(reason)})" for reason in different)
    return f"{len(left)} convolutions, left for {len(different)} reasons: {listed}"


def _instead(left: Sequence[str | None]) -> str:
    """The remedy where every convolution was left."""
    if set(left) == {reasons.HAS_DEPTHWISE}:
        return "train it as it is, or fold it first"
    if reasons.NOT_CHOSEN in left:
        return "look at plan(model), or choose other layers with where"
    return "look at plan(model)" if left else "give the model that holds the convolutions"
