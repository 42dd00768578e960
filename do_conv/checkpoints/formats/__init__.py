"""The formats of checkpoint files, by the ending of a file's name.

torch         PyTorch's pickles, .pt and .pth: tensors and plain containers only
safetensors   .safetensors
keras         Keras's weights, .weights.h5; for the authors' checkpoints also .h5
gluon         MXNet's .params, read and written without MXNet
npz           NumPy's archives of named arrays: for the authors' checkpoints only
bfloat16      a type NumPy does not have

A checkpoint holds states, which are dicts of named tensors, and they are changed in place; what
stands around them goes through untouched. A tensor is of the format's own kind.
"""

from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from do_conv import files
from do_conv.checkpoints import checks
from do_conv.checkpoints.layers import Naming
from do_conv.core.errors import DOConvError, MissingFrameworkError

# Longer endings first.
FOLDED = {
    ".weights.h5": "keras",
    ".safetensors": "safetensors",
    ".params": "gluon",
    ".pth": "torch",
    ".pt": "torch",
}
IMPORTED = {**FOLDED, ".h5": "keras", ".npz": "npz"}


@dataclass
class Checkpoint:
    """What a file holds.

    Attributes:
        states: dicts of named tensors; changed in place.
        rest: what stands around them.
    """

    states: list[dict[str, Any]]
    rest: Any = None


class Format(Protocol):
    """What each module of a format has."""

    KIND: str  # for messages
    NAMING: Naming  # how layers are found among the names, and the order of their axes

    def read(self, path: Path) -> Checkpoint:
        """What the file holds."""

    def write(self, path: Path, checkpoint: Checkpoint) -> None:
        """Write a file of it."""

    def shape(self, tensor: Any) -> tuple[int, ...] | None:
        """The shape of a tensor; None for what is none."""

    def array(self, tensor: Any) -> np.ndarray | None:
        """A tensor in float32, or float64 if it is; None unless it is dense and floating-point."""

    def tensor(self, array: np.ndarray, like: Any) -> Any:
        """An array as a tensor of the dtype of another."""

    def identity(self, tensor: Any) -> Any:
        """Something equal for tensors that are one in memory."""


def of(path: Path, endings: dict[str, str]) -> Format:
    """The format of a file's ending.

    Raises:
        DOConvError: if there is none of that ending.
        MissingFrameworkError: if what reads it is not installed.
    """
    name = next((endings[one] for one in endings if path.name.lower().endswith(one)), None)
    if name is None:
        checks.known_ending(path.name, sorted(endings))
    module: Any = importlib.import_module(f"do_conv.checkpoints.formats.{name}")
    return module


def for_both(source: Path, target: Path, endings: dict[str, str]) -> Format:
    """The format of a file to read and of one to write.

    Raises:
        DOConvError: if they are one file, of different formats, or of an unknown one.
    """
    format = of(source, endings)
    checks.same_format(source.name, target.name, of(target, endings) is format)
    is_one = source.exists() and target.exists() and source.samefile(target)
    checks.another_file(
        str(source), str(target), source.resolve() != target.resolve() and not is_one
    )
    return format


def read(format: Format, path: Path) -> Checkpoint:
    """What a file holds.

    Raises:
        DOConvError: if it cannot be read, or is not a whole file of its format.
    """
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        checks.present_file(str(path), error.strerror)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return format.read(path)
    except (DOConvError, MissingFrameworkError):
        raise
    except Exception as error:  # a damaged file makes a reader raise anything
        checks.whole_file(str(path), format.KIND, _reason(error))


def write(format: Format, path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint: whole, or not at all.

    Raises:
        DOConvError: if the file cannot be written.
    """
    with files.replacing(path) as beside:
        format.write(beside, checkpoint)


def _reason(error: Exception) -> str:
    """The first line of what a reader said, without the marks that divide our messages."""
    said = str(error).strip().splitlines() or [type(error).__name__]
    line = said[0].replace(";", ",")
    return line if len(line) <= 120 else line[:117] + "..."
