"""Keras's weights in HDF5: `.weights.h5`, and the older `.h5` of the authors' checkpoints.

The state's names are the paths of the arrays. Groups, attributes, chunks and compression are kept.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from do_conv.checkpoints.formats import Checkpoint, hdf5
from do_conv.checkpoints.formats.bfloat16 import narrowed, widened
from do_conv.checkpoints.keras_names import KERAS
from do_conv.checkpoints.layers import DELTA
from do_conv.core.errors import require_installed

KIND = "HDF5"
NAMING = KERAS

_OPTIONS = ("chunks", "compression", "compression_opts", "shuffle", "fletcher32")

# An attribute's value, shape and type.
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


def read(path: Path, layers: Sequence[str] = ()) -> Checkpoint:
    """The one state of a file; the rest is its groups, with their attributes.

    Args:
        path: the file.
        layers: the names of the layers whose kernels an optimizer trains as W and D'. The file does
            not have them; without them kernels are numbered.
    """
    require_installed("h5py", extra="files", user="an HDF5 file")
    import h5py

    groups: dict[str, Attributes] = {}
    state: dict[str, Dataset] = {}
    with h5py.File(io.BytesIO(hdf5.clean_copy(path)), "r") as file:
        _read_group("", file, groups, state)
    trained = list(_trained(groups, state))
    if len(set(layers)) != len(trained):
        layers = [f"kernel {number}" for number in range(len(trained))]
    kernels = {
        f"{layer}/vars/{name}": part
        for layer, parts in zip(layers, trained, strict=True)
        for name, part in zip(("0", DELTA), parts, strict=True)
    }
    return Checkpoint([state], groups, [kernels])


def _trained(groups: Collection[str], state: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    """W and D' of each kernel of a `DOConvOptimizer`, which has another optimizer inside.

    After two variables that every optimizer has, it stores three of each kernel: W, D', and a
    sample of W'.
    """
    for group in groups:
        owner = group.removesuffix("vars")
        if owner == group or f"{owner}optimizer/vars" not in groups:
            continue
        own: list[Any] = []
        while (path := f"{group}/{len(own)}") in state:
            own.append(state[path])
        kernels = [own[start : start + 3] for start in range(2, len(own), 3)]
        axes = [[len(shape(part)) for part in kernel] for kernel in kernels]
        if all(len(one) == 3 and min(one[:2]) > 2 and one[2] == 1 for one in axes):
            yield from ((weight, delta) for weight, delta, _ in kernels)


def _read_group(
    name: str, group: Any, groups: dict[str, Attributes], state: dict[str, Dataset]
) -> None:
    """Add a group, and what is in it, to the groups and the state."""
    groups[name] = _attributes(group)
    for inner, member in group.items():
        path = f"{name}/{inner}" if name else inner
        if hasattr(member, "dtype"):
            options = {option: getattr(member, option) for option in _OPTIONS if member.chunks}
            state[path] = Dataset(member[()], member.dtype, _attributes(member), options)
        else:
            _read_group(path, member, groups, state)


def _attributes(item: Any) -> Attributes:
    stored = {name: item.attrs.get_id(name) for name in item.attrs}
    return {name: (item.attrs[name], note.shape, note.dtype) for name, note in stored.items()}


def write(path: Path, checkpoint: Checkpoint) -> None:
    """Write the groups and the state."""
    (state,) = checkpoint.states

    def fill(file: Any) -> None:
        for name, attributes in checkpoint.rest.items():
            _note(file.require_group(name or "/"), attributes)
        for name, stored in state.items():
            item = file.create_dataset(name, data=stored.data, dtype=stored.dtype, **stored.options)
            _note(item, stored.attributes)

    path.write_bytes(hdf5.made(fill))


def _note(item: Any, attributes: Attributes) -> None:
    for name, (value, shape, dtype) in attributes.items():
        item.attrs.create(name, value, shape, dtype)


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
