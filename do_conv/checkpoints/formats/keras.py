"""Keras's weights in HDF5: `.weights.h5`, and the older `.h5` of the authors' checkpoints.

The state's names are the paths of the arrays. Groups, attributes, chunks and compression are kept.
"""

from __future__ import annotations

import errno
import os
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from do_conv import files
from do_conv.checkpoints.formats import Checkpoint, hdf5
from do_conv.checkpoints.formats.bfloat16 import narrowed, widened
from do_conv.checkpoints.keras_names import KERAS
from do_conv.core.errors import require_installed

KIND = "HDF5"
NAMING = KERAS

_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
_OPTIONS = ("chunks", "compression", "compression_opts", "shuffle", "fletcher32")

# Of an attribute: its value, shape and type.
Attributes = dict[str, tuple[Any, Any, Any]]


@dataclass(frozen=True, eq=False)
class Dataset:
    """An array as it is stored.

    Attributes:
        data: its values; of bfloat16, two bytes each.
        dtype: their type in HDF5's terms.
        attributes: what is noted of it.
        options: how it is laid out in the file.
    """

    data: Any
    dtype: Any
    attributes: Attributes
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def is_bfloat16(self) -> bool:
        """Whether Keras has noted that the two bytes are a number."""
        noted = self.attributes.get("dtype", ("",))[0]
        return bool(self.dtype.itemsize == 2 and noted == "bfloat16")


def read(path: Path) -> Checkpoint:
    """The one state of a file; the rest is its groups, with their attributes."""
    require_installed("h5py", extra="files", user="an HDF5 file")
    import h5py

    with tempfile.TemporaryDirectory() as folder:
        clean = Path(folder) / "copy.h5"
        (reason,) = hdf5.copies([(path, clean)])
        if reason is not None:
            raise _full(reason, clean) or ValueError(reason)
        with h5py.File(clean, "r") as file:
            groups: dict[str, Attributes] = {}
            state: dict[str, Dataset] = {}
            _keep("", file, groups, state)
    return Checkpoint([state], groups)


def _full(reason: str, path: Path) -> Exception | None:
    """The error for a disk that is full, if that is the reason."""
    number = re.match(r"\[Errno (\d+)\]", reason)
    if number is None or int(number[1]) not in _FULL:
        return None
    return files.unwritable(path, OSError(int(number[1]), os.strerror(int(number[1]))))


def _keep(name: str, found: Any, groups: dict[str, Attributes], state: dict[str, Dataset]) -> None:
    if not hasattr(found, "dtype"):
        groups[name] = _attributes(found)
        for inner in found:
            _keep(f"{name}/{inner}" if name else inner, found[inner], groups, state)
        return
    options = {option: getattr(found, option) for option in _OPTIONS if found.chunks}
    state[name] = Dataset(found[()], found.dtype, _attributes(found), options)


def _attributes(found: Any) -> Attributes:
    kept = {name: found.attrs.get_id(name) for name in found.attrs}
    return {name: (found.attrs[name], one.shape, one.dtype) for name, one in kept.items()}


def write(path: Path, checkpoint: Checkpoint) -> None:
    """Write the groups and the state."""
    (state,) = checkpoint.states

    def fill(file: Any) -> None:
        for name, attributes in checkpoint.rest.items():
            _note(file.require_group(name or "/"), attributes)
        for name, stored in state.items():
            made = file.create_dataset(name, data=stored.data, dtype=stored.dtype, **stored.options)
            _note(made, stored.attributes)

    hdf5.write(path, fill)


def _note(made: Any, attributes: Attributes) -> None:
    for name, (value, shape, dtype) in attributes.items():
        made.attrs.create(name, value, shape, dtype)


def shape(tensor: Dataset) -> tuple[int, ...]:
    """The shape of an array."""
    return tuple(np.shape(tensor.data))


def array(tensor: Dataset) -> np.ndarray | None:
    """Its numbers in float32, or float64 if it is; None unless it is floating-point."""
    if tensor.is_bfloat16:
        return widened(np.ascontiguousarray(tensor.data).view(np.uint16))
    if tensor.dtype not in (np.float64, np.float32, np.float16):
        return None
    return np.asarray(tensor.data, np.promote_types(tensor.dtype, np.float32))


def tensor(array: np.ndarray, like: Dataset) -> Dataset:
    """The array in the dtype of `like`, laid out plainly."""
    if like.is_bfloat16:
        return Dataset(narrowed(array).view(like.dtype), like.dtype, like.attributes)
    return Dataset(array.astype(like.dtype), like.dtype, like.attributes)


def identity(tensor: Dataset) -> Any:
    """The array itself: the format has no tied ones."""
    return id(tensor)
