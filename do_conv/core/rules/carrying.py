"""The rules for carrying weights from one model to another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from do_conv.core.errors import broken

_PAIR = (
    "give match='order' if both have their layers in the same order, or match={name in the file: "
    "name in the model}"
)


def carried_pairs(only_file: Sequence[str], only_model: Sequence[str]) -> None:
    """Every layer of the file is one of the model's, and the other way round."""
    if only_file or only_model:
        raise broken(
            "the layers of a file and of the model that takes them must be the same, by name",
            f"{_some(only_file)} only in the file, {_some(only_model)} only in the model",
            _PAIR,
        )


def carried_count(file: int, model: int) -> None:
    """Layers that are paired in their order are as many."""
    if file != model:
        raise broken(
            "a file and the model that takes it must have as many layers, to pair them in order",
            f"{file} in the file, {model} in the model",
            "carry a part of the model, or leave match out",
        )


def carried_names(file: set[str], model: set[str], in_file: set[str], in_model: set[str]) -> None:
    """A match names layers that are there."""
    unknown = sorted(file - in_file) + sorted(model - in_model)
    if unknown:
        raise broken(
            "match must have names of layers in the file as keys, and in the model as values",
            f"{_some(unknown)}, which are not there",
            f"choose from {_some(sorted(in_file))} and {_some(sorted(in_model))}",
        )


def carried_fit(layer: str, own: str, what: str, there: Any, here: Any, fits: bool) -> None:
    """A layer of a file and the model's layer that takes it are alike in what both have."""
    if not fits:
        raise broken(
            f"layer '{layer}' of a file and layer '{own}' of the model must have the same {what}",
            f"{there} in the file, {here} in the model",
            "make the model's layer like it, or pair the layers by other names with match",
        )


def _some(names: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:most]) or "none"
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
