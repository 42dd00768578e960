"""The report of folding or importing a checkpoint, for a person and for a program."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Layer:
    """One layer that was folded or imported.

    Attributes:
        name: its name in the file; "" where the file is of one bare layer.
        kind: "over-parameterized", "separable", or "plain" for one without a D.
        kernel_size: K.
        groups: G; None where the file does not tell it.
        d_mul: D_mul.
        notes: sentences for a person.
    """

    name: str
    kind: str
    kernel_size: tuple[int, ...] = ()
    groups: int | None = None
    d_mul: int | None = None
    notes: tuple[str, ...] = ()


@dataclass
class Report:
    """The layers that were folded or imported, and the numbers that were read and written.

    Attributes:
        source: the path that was read.
        target: the path that was written.
        layers: the layers that were folded or imported.
        passed: how many other tensors went through untouched.
        numbers_before: the numbers in all named tensors that were read.
        numbers_after: the numbers in all named tensors that were written.
    """

    source: str
    target: str
    layers: list[Layer] = field(default_factory=list)
    passed: int = 0
    numbers_before: int = 0
    numbers_after: int = 0

    @property
    def notes(self) -> dict[str, list[str]]:
        """Each note, with the names of the layers it is about."""
        notes: dict[str, list[str]] = {}
        for layer in self.layers:
            for note in layer.notes:
                notes.setdefault(note, []).append(layer.name)
        return notes

    def as_json(self) -> dict[str, Any]:
        """Everything, in the types of JSON."""
        return {**asdict(self), "notes": self.notes}
