"""Which variables are kernels, and what an optimizer has of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from do_conv.core import rules
from do_conv.core.spec import Spec
from do_conv.models.choices import Where
from do_conv.models.decisions import DMul, decisions
from do_conv.tf.models.classes import kernel_of
from do_conv.tf.models.planning import described_in_place

# A kernel's place among the variables, the name of its layer, and its sizes.
Planned = list[tuple[int, str, Spec]]
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
    return [(place, name, spec) for place, (name, spec) in found.items()]


def saved(kernels: Planned) -> list[dict[str, Any]]:
    """The planned kernels as a configuration."""
    configs = []
    for place, name, spec in kernels:
        sizes = {**asdict(spec), "kernel_size": list(spec.kernel_size)}
        configs.append({"place": place, "layer": name, "spec": sizes})
    return configs


def loaded(configs: Sequence[Mapping[str, Any]], variables: Sequence[Any] | None = None) -> Planned:
    """The way back, for the variables of a model like the one that was saved, if they are there.

    Raises:
        DOConvError: if a variable has another shape.
    """
    kernels = [(one["place"], one["layer"], Spec(**one["spec"])) for one in configs]
    if variables is None:
        return kernels
    for place, name, spec in kernels:
        shape = tuple(variables[place].shape) if place < len(variables) else ()
        expected = (*spec.kernel_size, spec.group_channels, spec.rows)
        # Depthwise and transposed layers have other axes behind those of the positions.
        is_like = shape[: spec.rank] == spec.kernel_size and math.prod(shape) == math.prod(expected)
        rules.stored_shape(f"{name}.kernel", expected, expected if is_like else shape)
    return kernels
