"""Parameters that several layers of a model share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

# Each layer of a model with the parameters it holds itself.
Holders = Iterable[tuple[Any, Iterable[Any]]]


def readers(holders: Holders) -> defaultdict[int, list[Any]]:
    """The layers that hold each parameter, by the parameter's `id`."""
    read_by: defaultdict[int, list[Any]] = defaultdict(list)
    for layer, parameters in holders:
        for parameter in parameters:
            read_by[id(parameter)].append(layer)
    return read_by


def sharing(layers: Iterable[Any], *names: str) -> list[list[Any]]:
    """The layers in groups that share the parameters of these names, in their order."""
    groups: dict[tuple[int, ...], list[Any]] = defaultdict(list)
    for layer in layers:
        groups[tuple(id(getattr(layer, name)) for name in names)].append(layer)
    return list(groups.values())


def composed_kernels(layers: Iterable[Any], holders: Holders) -> Iterator[tuple[list[Any], bool]]:
    """For each composed kernel the layers that share it, and whether their W may become the kernel.

    It may not where another layer reads W, as it is or with another D'.
    """
    read_by = readers(holders)
    with_delta = (layer for layer in layers if layer.depthwise_delta is not None)
    for group in sharing(with_delta, "weight", "depthwise_delta"):
        members = set(map(id, group))
        yield group, all(id(layer) in members for layer in read_by[id(group[0].weight)])
