"""The arrays of an authors' checkpoint, and the layers of the network that takes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from do_conv.adapter import ModelLayer
from do_conv.checkpoints import checks, states
from do_conv.checkpoints.authors_names import Theirs
from do_conv.checkpoints.formats import Format

_REMEDY = (
    "build the model with the names of the file, or remove what a wrapper put before them with "
    "strip_prefix"
)
_COUNTERS = ("int", "uint", "bool")


@dataclass(frozen=True)
class Pairs:
    """The layers of a file by the names that they have in a model.

    Attributes:
        theirs: the authors' layers.
        others: for each other layer the names of its arrays in the file, by those in its class.
    """

    theirs: Mapping[str, Theirs]
    others: Mapping[str, Mapping[str, str]]


def by_name(
    state: Mapping[str, Any],
    found: Sequence[Theirs],
    layers: Mapping[str, ModelLayer],
    format: Format,
) -> Pairs:
    """Pair layers of the same name, which may have a prefix in the file.

    Raises:
        DOConvError: if the layers of the file are not the model's.
    """
    before = _prefix([theirs.name for theirs in found], layers)
    named = {
        own: theirs for theirs in found if (own := _inside(f"{theirs.name}.", before)) is not None
    }
    others = _other_arrays(states.shapes(state, format), found, before)
    names = {*named, *others} - _tied(state, named, others, layers, format)
    missing = [name for name, layer in layers.items() if name not in names and any(trained(layer))]
    extra = sorted(names - layers.keys())
    checks.paired_names([*map(_shown, extra)], [*map(_shown, missing)], _REMEDY)
    return Pairs(
        {own: theirs for own, theirs in named.items() if own in names},
        {own: keys for own, keys in others.items() if own in names},
    )


def _prefix(names: Sequence[str], layers: Mapping[str, ModelLayer]) -> str:
    """The shortest prefix without which most names of a file are names of a model's layers."""
    marked = [f"{name}." for name in names]
    candidates = {""} | {
        name[: i + 1] for name in marked for i, letter in enumerate(name) if letter == "."
    }

    def paired(prefix: str) -> int:
        return sum(_inside(name, prefix) in layers for name in marked)

    return max(sorted(candidates, key=lambda prefix: (len(prefix), prefix)), key=paired)


def _inside(name: str, prefix: str) -> str | None:
    """A layer's name, given with a dot at its end, without a prefix; None if it has another."""
    return name.removeprefix(prefix).rstrip(".") if name.startswith(prefix) else None


def _other_arrays(
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


def _tied(
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


def _shown(layer: str) -> str:
    """A layer's name in a message."""
    return layer or "(the network itself)"


def by_order(
    stored: Mapping[str, Mapping[str, str]],
    found: Sequence[Theirs],
    layers: Mapping[str, ModelLayer],
) -> Pairs:
    """Pair the layers of a Keras file with a model's in their order, as Keras does.

    Args:
        stored: the file's layers, in its order: for each the names of its arrays in the file, by
            those in its class.
        found: the authors' layers among them.
        layers: the model's, in its order.

    Raises:
        DOConvError: if there are not as many.
    """
    own = [name for name, layer in layers.items() if any(trained(layer))]
    checks.as_many_layers(len(stored), len(own), "give a model with the layers of the file")
    theirs = {layer.name: layer for layer in found}
    pairs = dict(zip(own, stored, strict=True))
    return Pairs(
        {name: theirs[there] for name, there in pairs.items() if there in theirs},
        {name: stored[there] for name, there in pairs.items() if there not in theirs},
    )


def trained(layer: ModelLayer) -> Iterator[str]:
    """The roles of a layer's arrays that are no counters or indices, which the model keeps."""
    for role, array in layer.arrays.items():
        if not array.dtype.startswith(_COUNTERS):
            yield role
