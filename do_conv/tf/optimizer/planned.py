"""Which variables are kernels, and how a configuration says it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from do_conv.core import rules
from do_conv.core.errors import broken
from do_conv.core.spec import Spec
from do_conv.models.choices import Where
from do_conv.models.decisions import DMul, to_convert
from do_conv.tf.models.classes import kernel_of
from do_conv.tf.models.planning import described_in_place


class PlannedKernel(NamedTuple):
    """A kernel that has W and D'.

    Attributes:
        place: its number among the variables that are trained; None if it is frozen.
        layer: the name of its layer.
        spec: the sizes.
        shape: that of the variable.
    """

    place: int | None
    layer: str
    spec: Spec
    shape: tuple[int, ...]


class Planned(NamedTuple):
    """The kernels that have W and D', and how many variables are trained."""

    kernels: list[PlannedKernel]
    among: int


# Gives the planned kernels among variables; without any, among those of the model.
Find = Callable[..., Planned]


def planned(
    model: Any, where: Where, d_mul: DMul, variables: Sequence[Any] | None = None
) -> Planned:
    """The kernels of a model that can have W and D', among its variables.

    Raises:
        DOConvError: if no layer can be over-parameterized, one has no variables yet, or an option
            breaks a rule.
    """
    among = model.trainable_variables if variables is None else variables
    places = {id(variable): place for place, variable in enumerate(among)}
    found: dict[int, PlannedKernel] = {}
    for layer, row in to_convert(described_in_place(model), where, d_mul, "kernel"):
        if row.spec is not None:
            rules.built(row.name, layer.built)
            kernel = kernel_of(layer)
            place = places.get(id(kernel))
            if place is not None:
                shape = tuple(kernel.shape)
                found.setdefault(place, PlannedKernel(place, row.name, row.spec, shape))
    return Planned(list(found.values()), len(among))


def saved(kernels: Planned) -> dict[str, Any]:
    """The planned kernels as a part of a configuration."""
    configs = []
    for kernel in kernels.kernels:
        sizes = {**asdict(kernel.spec), "kernel_size": list(kernel.spec.kernel_size)}
        configs.append({**kernel._asdict(), "spec": sizes, "shape": list(kernel.shape)})
    return {"kernels": configs, "variables": kernels.among}


def loaded(config: Mapping[str, Any], variables: Sequence[Any] | None = None) -> Planned:
    """The way back, for the variables of a model like the one that was saved, if they are there.

    Raises:
        DOConvError: if there are more or fewer variables, or one has another shape.
    """
    kernels = [_of_config(one) for one in config["kernels"]]
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
    for kernel in kernels:
        if kernel.place is not None:
            shape = tuple(variables[kernel.place].shape)
            rules.stored_shape(f"{kernel.layer}.kernel", kernel.shape, shape)
    return Planned(kernels, among)


def _of_config(one: Mapping[str, Any]) -> PlannedKernel:
    sizes = {**one["spec"], "kernel_size": tuple(one["spec"]["kernel_size"])}
    return PlannedKernel(one["place"], one["layer"], Spec(**sizes), tuple(one["shape"]))
