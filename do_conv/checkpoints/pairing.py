"""The names in a checkpoint and the layers of the network that takes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from do_conv.adapter import ModelLayer
from do_conv.checkpoints import checks
from do_conv.checkpoints.authors_names import Theirs
from do_conv.checkpoints.formats import Format

_REMEDY = (
    "build the model with the names of the file, or remove what a wrapper put before them with "
    "strip_prefix"
)
_COUNTERS = ("int", "uint", "bool")


def prefix(names: Sequence[str], layers: Mapping[str, ModelLayer]) -> str:
    """The shortest prefix without which most names of a file are names of a model's layers."""
    marked = [f"{name}." for name in names]
    candidates = {""} | {
        name[: i + 1] for name in marked for i, letter in enumerate(name) if letter == "."
    }

    def paired(prefix: str) -> int:
        return sum(inside(name, prefix) in layers for name in marked)

    return max(sorted(candidates, key=lambda prefix: (len(prefix), prefix)), key=paired)


def inside(name: str, prefix: str) -> str | None:
    """A layer's name, given with a dot at its end, without a prefix; None if it has another."""
    return name.removeprefix(prefix).rstrip(".") if name.startswith(prefix) else None


def other_arrays(
    state: Mapping[str, Any], found: Sequence[Theirs], before: str
) -> dict[str, dict[str, str]]:
    """The names of the other arrays behind a prefix: for each layer, by their role."""
    theirs = {key for layer in found for key in layer.keys.values()}
    others: dict[str, dict[str, str]] = {}
    for key in state:
        if isinstance(key, str) and key not in theirs and key.startswith(before):
            layer, _, role = key.removeprefix(before).rpartition(".")
            others.setdefault(layer, {})[role] = key
    return others


def tied(
    state: Mapping[str, Any],
    named: Mapping[str, Theirs],
    others: Mapping[str, Mapping[str, str]],
    layers: Mapping[str, ModelLayer],
    format: Format,
) -> set[str]:
    """The further names of layers that a network has under several: a model's layers have one."""
    if not (named.keys() | others.keys()) - layers.keys():
        return set()
    arrays = {name: [*theirs.keys.values()] for name, theirs in named.items()}
    for name, keys in others.items():
        arrays.setdefault(name, []).extend(keys.values())
    memory = {
        name: frozenset(format.identity(state[key]) for key in keys)
        for name, keys in arrays.items()
    }
    held = {places for name, places in memory.items() if name in layers}
    return {name for name, places in memory.items() if name not in layers and places in held}


def check_pairs(names: set[str], layers: Mapping[str, ModelLayer]) -> None:
    """Refuse a file whose layers are not the model's."""
    missing = [name for name, layer in layers.items() if name not in names and any(trained(layer))]
    extra = sorted(names - layers.keys())
    checks.paired_names([*map(_shown, extra)], [*map(_shown, missing)], _REMEDY)


def _shown(layer: str) -> str:
    """A layer's name in a message."""
    return layer or "(the network itself)"


def trained(layer: ModelLayer) -> Iterator[str]:
    """The roles of a layer's arrays that are no counters or indices, which the model keeps."""
    for role, array in layer.arrays.items():
        if not array.dtype.startswith(_COUNTERS):
            yield role
