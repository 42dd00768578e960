"""Which variables are kernels, and what an optimizer has of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from do_conv.core import rules
from do_conv.core.errors import broken
from do_conv.core.spec import Spec
from do_conv.models.choices import Where
from do_conv.models.decisions import DMul, decisions
from do_conv.tf.models.classes import kernel_of
from do_conv.tf.models.planning import described_in_place


class Planned(NamedTuple):
    """The kernels that have W and D'.

    Attributes:
        kernels: of each its place among the variables that are trained, None if it is frozen, the
            name of its layer, and its sizes.
        among: how many variables are trained.
    """

    kernels: list[tuple[int | None, str, Spec]]
    among: int


# Gives the planned kernels among variables; without any, among those of the model.
Find = Callable[..., Planned]


def planned(
    model: Any, where: Where, d_mul: DMul, variables: Sequence[Any] | None = None
) -> Planned:
    """The kernels of a model that can have W and D', among its variables.

    Raises:
        DOConvError: if a layer has no variables yet, or `d_mul` breaks a rule.
    """
    among = model.trainable_variables if variables is None else variables
    places = {id(variable): place for place, variable in enumerate(among)}
    found: dict[int, tuple[str, Spec]] = {}
    for layer, row in decisions(described_in_place(model), where, d_mul, "kernel"):
        if row.becomes and row.spec is not None:
            rules.built(row.name, layer.built)
            place = places.get(id(kernel_of(layer)))
            if place is not None:
                found.setdefault(place, (row.name, row.spec))
    return Planned([(place, name, spec) for place, (name, spec) in found.items()], len(among))


def saved(kernels: Planned) -> dict[str, Any]:
    """The planned kernels as a part of a configuration."""
    configs = []
    for place, name, spec in kernels.kernels:
        sizes = {**asdict(spec), "kernel_size": list(spec.kernel_size)}
        configs.append({"place": place, "layer": name, "spec": sizes})
    return {"kernels": configs, "variables": kernels.among}


def loaded(config: Mapping[str, Any], variables: Sequence[Any] | None = None) -> Planned:
    """The way back, for the variables of a model like the one that was saved, if they are there.

    Raises:
        DOConvError: if there are more or fewer variables, or one has another shape.
    """
    kernels = [(one["place"], one["layer"], Spec(**one["spec"])) for one in config["kernels"]]
    among = config["variables"]
    if variables is None:
        return Planned(kernels, among)
    if len(variables) != among:
        raise broken(
            f"an optimizer that was saved with {among} trained variables must be built for as many",
            f"{len(variables)}",
            "freeze what was frozen then, or load the model with compile=False and make a new "
            "DOConvOptimizer for it",
        )
    for place, name, spec in kernels:
        if place is None:
            continue
        shape = tuple(variables[place].shape)
        expected = (*spec.kernel_size, spec.group_channels, spec.rows)
        # Depthwise and transposed layers have other axes behind those of the positions.
        is_like = shape[: spec.rank] == spec.kernel_size and math.prod(shape) == math.prod(expected)
        rules.stored_shape(f"{name}.kernel", expected, expected if is_like else shape)
    return Planned(kernels, among)
