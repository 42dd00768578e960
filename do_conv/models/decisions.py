"""What becomes of each convolution of a model, once a framework has said what it finds there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from do_conv.core.rules import CompositionName
from do_conv.core.spec import Spec
from do_conv.models import reasons
from do_conv.models.choices import Where, chooser
from do_conv.models.plan import Row

# D_mul for all layers, or for the layer of a spec; None is |K|.
DMul = int | Callable[[Spec], int] | None


@dataclass(frozen=True)
class Found:
    """A convolution, or a graph that hides some, as it stands in a model.

    Attributes:
        name: where it is in the model; "" is the model itself.
        layer: the framework's layer.
        reason: why it has to be left, or None.
        parameters: how many it has, with its bias.
        spec_of: gives its sizes for a D_mul, None being |K|; None where they cannot be read.
        becomes: the class that would take its place; None if it has to be left.
        kernel_only: whether that class has kernel composition only.
        weight: its W, where a framework's layers can share one.
        count: how many convolutions it is or hides.
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


def decisions(
    found: Iterable[Found],
    where: Where,
    d_mul: DMul,
    composition: CompositionName,
    holders: Iterable[tuple[Any, Iterable[Any]]] = (),
) -> list[tuple[Any, Row]]:
    """Each convolution with what becomes of it.

    Args:
        found: the convolutions, each once, in the model's order.
        where, d_mul, composition: as for `convert`.
        holders: every layer of the model with the parameters it holds itself, where a framework's
            layers can share them.

    Returns:
        the layers, in the order they came, each with its row.

    Raises:
        DOConvError: if `d_mul` breaks a rule.
    """
    place, alone, chooses = 0, [], chooser(where)
    for one in found:
        alone.append((one, _alone(one, chooses, d_mul, composition, place)))
        place += one.count
    return _together(alone, holders)


def _alone(
    one: Found,
    chooses: Callable[[str, Any, Spec, int], bool],
    d_mul: DMul,
    composition: CompositionName,
    place: int,
) -> Row:
    """What would become of a convolution if no other layer shared its weight."""
    reason = one.reason
    spec = None if one.spec_of is None else one.spec_of(None)
    if reason is None and spec is not None and one.spec_of is not None:
        if chooses(one.name, one.layer, spec, place):
            spec = one.spec_of(d_mul(spec) if callable(d_mul) else d_mul)
        else:
            reason = reasons.NOT_CHOSEN
    becomes = None if reason or one.becomes is None else one.becomes.__name__
    return Row(
        one.name,
        type(one.layer).__name__,
        becomes,
        reason,
        one.parameters,
        spec,
        composition="kernel" if one.kernel_only else composition,
        kernel_only=one.kernel_only,
    )


def _together(
    alone: list[tuple[Found, Row]], holders: Iterable[tuple[Any, Iterable[Any]]]
) -> list[tuple[Any, Row]]:
    """Leave a weight that something reads as a kernel, or as the W of other sizes.

    A weight has one D; a layer without it would change when the others are folded.
    """
    converted = {id(one.layer): row.spec for one, row in alone if row.becomes}
    readers: dict[int, list[Spec | None]] = defaultdict(list)
    for layer, parameters in holders:
        for parameter in parameters:
            readers[id(parameter)].append(converted.get(id(layer)))
    return [
        (one.layer, replace(row, becomes=None, reason=reasons.SHARED_WEIGHT))
        if row.becomes and any(spec != row.spec for spec in readers[id(one.weight)])
        else (one.layer, row)
        for one, row in alone
    ]
