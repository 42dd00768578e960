"""W and D' of layers, as an optimizer holds them that is to go on without layers."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from do_conv.adapter import DELTA
from do_conv.core import rules
from do_conv.core.errors import broken
from do_conv.core.rules import DepthwiseInit
from do_conv.core.spec import Spec
from do_conv.models import checks
from do_conv.models.sharing import composed_kernels
from do_conv.torch.base import Composed, OverParameterized
from do_conv.torch.models.structure import holders
from do_conv.torch.parametrization import is_over_parameterized

Groups = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Held:
    """W and D' of a layer, or of layers that share both, in an optimizer.

    Attributes:
        name: the first layer's name.
        parameter: the parameter that is W, and W' once the layer is folded.
        weight: the values of W, which stay when it is folded.
        delta: D'.
        spec: the sizes.
        depthwise_init: the start of D'.
        groups: the numbers of the groups that W and D' are in.
    """

    name: str
    parameter: nn.Parameter
    weight: Tensor
    delta: nn.Parameter
    spec: Spec
    depthwise_init: DepthwiseInit
    groups: tuple[int, int]


def held_layers(model: nn.Module, groups: Groups) -> list[Held]:
    """The W and D' of a model that are in an optimizer, in the model's order.

    Raises:
        DOConvError: if the optimizer holds no D', or those of a layer cannot be trained beside a
            plain kernel.
    """
    group_of = {p: place for place, group in enumerate(groups) for p in group["params"]}
    names = {module: name for name, module in model.named_modules()}
    ours: list[Any] = [m for m in names if isinstance(m, Composed) or is_over_parameterized(m)]
    for layer in ours:
        _check_kind(layer, names[layer])
    held = []
    for (layer, *_), may_change in composed_kernels(ours, holders(model)):
        name, weight, delta = names[layer], layer.weight, layer.depthwise_delta
        checks.delta_shared_with_weight(may_change, name)
        inside = [group_of[part] for part in (weight, delta) if part in group_of]
        if len(inside) == 1 or weight.requires_grad != delta.requires_grad:
            raise broken(
                "W and D' of a layer must be in the optimizer together, and be trained together",
                f"layer '{name}', of which only one is",
                "add or freeze the other, or go on with layers",
            )
        if inside:
            started = layer.spec, layer.depthwise_init
            held.append(
                Held(name, weight, weight.detach(), delta, *started, (inside[0], inside[1]))
            )
    if not held:
        raise broken(
            "an optimizer that is to go on without layers must hold W and D' of one",
            "one without them",
            "make it from the parameters of the model, whose layers are not folded yet",
        )
    return held


def options_of_deltas(held: Sequence[Held], groups: Groups, names: Iterable[str]) -> dict[str, Any]:
    """The options of D' that differ from those of W, the same for all layers.

    Args:
        held: the layers.
        groups: the groups of the optimizer.
        names: the options that it has.

    Raises:
        DOConvError: if they are not the same for all layers.
    """
    options = []
    for one in held:
        of_weight, of_delta = (groups[place] for place in one.groups)
        options.append(_difference(of_weight, of_delta, names))
    for one, own in zip(held, options, strict=True):
        if not _are_same(own, options[0]):
            raise broken(
                "the options of D' must differ from those of W in the same way in every layer",
                f"{_words(options[0])} in layer '{held[0].name}' and {_words(own)} in layer "
                f"'{one.name}'",
                "give all D' the same options, or go on with layers",
            )
    return options[0]


def _difference(
    of_weight: Mapping[str, Any], of_delta: Mapping[str, Any], names: Iterable[str]
) -> dict[str, Any]:
    """The options of a group of D' that differ, with the rate it would have at the first of W."""
    # A copy of an optimizer may have defaults that its groups lack.
    both = [name for name in names if name in of_weight and name in of_delta]
    options = {name: of_delta[name] for name in both if of_delta[name] != of_weight[name]}
    first = of_weight.get("initial_lr", of_weight.get("lr"))
    if "lr" in options and of_weight["lr"]:
        options["lr"] = of_delta["lr"] * (first / of_weight["lr"])
    elif of_delta.get("initial_lr", first) != first:
        options["lr"] = of_delta["initial_lr"]
    return options


def _are_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether options are the same, with rates that may be rounded in another way."""
    rates = (float(options.get("lr", 0)) for options in (one, other))
    others = ({k: v for k, v in options.items() if k != "lr"} for options in (one, other))
    return one.keys() == other.keys() and math.isclose(*rates) and operator.eq(*others)


def _words(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in options.items()) or "no difference"


def _check_kind(layer: Any, name: str) -> None:
    """Refuse a DO-Conv layer that has no W and D' of its own.

    Raises:
        DOConvError: if it is a separable one, its W or D' is computed, or a size is not known yet.
    """
    has_parts = False
    if isinstance(layer, OverParameterized):
        rules.built(name, layer.spec.is_known)
        has_parts = layer._parameters.keys() >= {"weight", DELTA}
    checks.layer_with_parts(has_parts, name, type(layer).__name__, "model", "DOConvOptimizer")
