"""The formats of checkpoint files, by the ending of a file's name.

torch         PyTorch's pickles, .pt, .pth and Lightning's .ckpt: tensors and plain containers only
safetensors   .safetensors
keras         Keras's weights, .weights.h5; for the authors' checkpoints also .h5
keras_archive Keras's models, .keras: read only
gluon         MXNet's .params, read and written without MXNet
gluon_states  the states of a Gluon trainer, .states: read only
npz           NumPy's archives of named arrays: for the authors' checkpoints only
bfloat16      a type NumPy does not have

A checkpoint holds states, which are dicts of named tensors and are changed in place; the rest of
the file goes through untouched. Each format has its own type of tensor.
"""

from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from do_conv import files
from do_conv.checkpoints.layers import Naming
from do_conv.core import rules
from do_conv.core.errors import DOConvError, MissingFrameworkError, broken

# Longer endings first.
FOLDED = {
    ".weights.h5": "keras",
    ".safetensors": "safetensors",
    ".params": "gluon",
    ".pth": "torch",
    ".pt": "torch",
}
DRAWN = {**FOLDED, ".keras": "keras_archive", ".states": "gluon_states"}
# Lightning's files end in `.ckpt`.
IMPORTED = {**FOLDED, ".h5": "keras", ".npz": "npz", ".ckpt": "torch"}


@dataclass
class Checkpoint:
    """The content of a file.

    Attributes:
        states: dicts of named tensors; changed in place.
        rest: everything else, as the format reads it.
        kernels: W and D' in the states of our optimizers, by the names that layers would give them;
            where no name is stored, by the number of a parameter.
    """

    states: list[dict[str, Any]]
    rest: Any = None
    kernels: list[dict[str, Any]] = field(default_factory=list)


class Format(Protocol):
    """The members of each module of a format."""

    KIND: str  # for messages
    NAMING: Naming  # how layers are found among the names, and the order of their axes

    def read(self, path: Path) -> Checkpoint:
        """Read a file."""

    def write(self, path: Path, checkpoint: Checkpoint) -> None:
        """Write a file."""

    def shape(self, tensor: Any) -> tuple[int, ...] | None:
        """The shape of a tensor; None for anything else."""

    def array(self, tensor: Any) -> np.ndarray | None:
        """A tensor in float32, or float64 if it is; None unless it is dense and floating-point."""

    def tensor(self, array: np.ndarray, like: Any) -> Any:
        """An array as a tensor of the dtype of another."""

    def identity(self, tensor: Any) -> Any:
        """A key that is equal for tensors that share their memory."""


def of(path: Path, endings: dict[str, str]) -> Format:
    """The format of a file's ending.

    Raises:
        DOConvError: if no format has that ending.
        MissingFrameworkError: if what reads it is not installed.
    """
    ending = next((ending for ending in endings if path.name.lower().endswith(ending)), None)
    if ending is None:
        raise rules.unknown("checkpoint format", path.suffix or path.name, sorted(endings))
    module: Any = importlib.import_module(f"do_conv.checkpoints.formats.{endings[ending]}")
    return module


def for_both(source: Path, target: Path, endings: dict[str, str]) -> Format:
    """The format of a file to read and of one to write.

    Raises:
        DOConvError: if they are one file, of different formats, or of an unknown one.
    """
    format = of(source, endings)
    if of(target, endings) is not format:
        raise broken(
            "the new checkpoint must be of the format of the old one",
            f"{source.name} and {target.name}",
            "give both names the same ending",
        )
    is_linked = source.exists() and target.exists() and source.samefile(target)
    if is_linked or source.resolve() == target.resolve():
        raise broken(
            "the new checkpoint must be another file than the old one",
            f"{source} and {target}, which are one file",
            "give the new one a name of its own",
        )
    return format


def read(format: Format, path: Path) -> Checkpoint:
    """The content of a file.

    Raises:
        DOConvError: if it cannot be read, or is not a whole file of its format.
    """
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise broken(
            "a checkpoint must be a file that can be read",
            f"{path} ({error.strerror})",
            "check the path and its permissions",
        ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return format.read(path)
    except (DOConvError, MissingFrameworkError):
        raise
    except Exception as error:  # a damaged file can raise any exception
        raise broken(
            f"a checkpoint with this ending must be a whole {format.KIND} file",
            f"{path} ({_reason(error)})",
            "save or copy it again, or give it the ending of its format",
        ) from None


def write(format: Format, path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint: whole, or not at all.

    Raises:
        DOConvError: if the file cannot be written.
    """
    with files.replacing(path) as beside:
        format.write(beside, checkpoint)


def _reason(error: Exception) -> str:
    """The first line of a reader's error, without the marks that divide our messages."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    line = lines[0].replace(";", ",")
    return line if len(line) <= 120 else line[:117] + "..."
