"""NumPy's archives of named arrays, read without unpickling."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from do_conv.checkpoints.formats import Checkpoint
from do_conv.checkpoints.layers import NPZ

KIND = "NumPy .npz"
NAMING = NPZ


def read(path: Path) -> Checkpoint:
    """The one state of a file."""
    if not zipfile.is_zipfile(path):
        raise ValueError("it is not a zip archive, or a damaged one")
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    if not all(isinstance(array, np.ndarray) for array in arrays.values()):
        raise ValueError("it has files that are no arrays")
    return Checkpoint([arrays])


def write(path: Path, checkpoint: Checkpoint) -> None:
    """Write the state."""
    # Not `np.savez`: its argument `file` would clash with an array of that name.
    with path.open("wb") as file, zipfile.ZipFile(file, "w") as archive:
        for name, stored in checkpoint.states[0].items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, stored, allow_pickle=False)


def shape(tensor: np.ndarray) -> tuple[int, ...]:
    """The shape of an array."""
    return tensor.shape


def array(tensor: np.ndarray) -> np.ndarray | None:
    """Its numbers in float32, or float64 if it is; None unless it is floating-point."""
    if tensor.dtype not in (np.float64, np.float32, np.float16):
        return None
    return tensor.astype(np.promote_types(tensor.dtype, np.float32))


def tensor(array: np.ndarray, like: np.ndarray) -> np.ndarray:
    """The array in the dtype of `like`."""
    return array.astype(like.dtype)


def identity(tensor: np.ndarray) -> Any:
    """The array itself: the format has no tied ones."""
    return id(tensor)
