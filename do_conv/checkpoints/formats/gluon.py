"""MXNet's `.params` files, read and written here: MXNet's own reader trusts what it reads.

A file is two numbers of 8 bytes (274 and 0), a list of arrays and a list of names, each with its
length before it. An array is a magic number, its shape, where it was, its dtype, and its data; the
magic says how these are written. All numbers are little-endian.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from do_conv.checkpoints.formats import Checkpoint
from do_conv.checkpoints.formats.bfloat16 import narrowed, widened
from do_conv.checkpoints.layers import GLUON

KIND = "MXNet .params"
NAMING = GLUON

_FILE = 0x112
# V3 distinguishes a scalar from an unknown shape.
_V1, _V2, _V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
_ITEM_SIZES = {0: 4, 1: 8, 2: 2, 3: 1, 4: 4, 5: 1, 6: 8, 7: 1, 8: 2, 9: 2, 10: 4, 11: 8, 12: 2}
_FLOATING = {0: "<f4", 1: "<f8", 2: "<f2", 12: "<u2"}  # 12 is bfloat16
_INDICES = {0: 0, 1: 1, 2: 2}  # how many arrays of indices a storage type has: dense, rows, CSR
_MOST_AXES = 32


@dataclass(frozen=True, eq=False)
class Array:
    """An array as it is stored.

    Attributes:
        data: all its bytes.
        shape: the sizes of its axes.
        dtype: its number in the format.
        begin: where its numbers begin in `data`; None if it is sparse or has none.
    """

    data: bytes
    shape: tuple[int, ...]
    dtype: int
    begin: int | None


class Reader:
    """A position in bytes that never leaves them."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def skip(self, count: int) -> int:
        """Advance, and return the old position."""
        if count < 0 or self.at + count > len(self.data):
            raise ValueError("it ends in the middle of an array or name")
        self.at += count
        return self.at - count

    def number(self, code: str) -> int:
        """The next number, of a code of `struct`."""
        value: int = struct.unpack_from("<" + code, self.data, self.skip(struct.calcsize(code)))[0]
        return value

    def shape(self, axes: int, code: str) -> tuple[int, ...]:
        """The next `axes` sizes."""
        if not 0 <= axes <= _MOST_AXES:
            raise ValueError(f"an array of {axes} axes")
        sizes = tuple(self.number(code) for _ in range(axes))
        if any(size < 0 for size in sizes):
            raise ValueError("an array of a negative size")
        return sizes


def read(path: Path) -> Checkpoint:
    """The one state of a file."""
    reader = Reader(path.read_bytes())
    if (reader.number("Q"), reader.number("Q")) != (_FILE, 0):
        raise ValueError("it does not begin as such a file does")
    arrays = [read_array(reader) for _ in range(_count(reader))]
    names = []
    for _ in range(_count(reader)):
        length = reader.number("Q")
        start = reader.skip(length)
        names.append(reader.data[start : start + length].decode())
    if reader.at != len(reader.data):
        raise ValueError("it goes on after its last name")
    if len(names) != len(arrays):
        raise ValueError(f"{len(arrays)} arrays with {len(names)} names")
    if len(set(names)) != len(names):
        raise ValueError("two arrays of one name")
    return Checkpoint([dict(zip(names, arrays, strict=True))])


def _count(reader: Reader) -> int:
    """The length of a list, each item of which takes 4 bytes at least."""
    count = reader.number("Q")
    if count * 4 > len(reader.data):
        raise ValueError("a list longer than the file")
    return count


def read_array(reader: Reader) -> Array:
    """The array at a reader's position."""
    first, magic = reader.at, reader.number("I")
    if magic in (_V2, _V3):
        return _read_new_array(reader, first, magic)
    # Before there was a magic number, the number of axes stood in its place.
    axes, code = (reader.number("I"), "q") if magic == _V1 else (magic, "I")
    return _read_dense(reader, first, reader.shape(axes, code), axes == 0)


def _read_new_array(reader: Reader, first: int, magic: int) -> Array:
    storage = reader.number("i")
    if storage not in _INDICES:
        raise ValueError(f"an array of storage type {storage}")
    indices = _INDICES[storage]
    stored = reader.shape(reader.number("i"), "q") if indices else ()
    axes = reader.number("i")
    unknown = axes == (-1 if magic == _V3 else 0)
    shape = () if unknown else reader.shape(axes, "q")
    if not indices or unknown:
        return _read_dense(reader, first, shape, unknown)
    dtype = _dtype_after_context(reader)
    index_bytes = 0
    for _ in range(indices):
        size = _item_size(reader.number("i"))
        index_bytes += size * math.prod(reader.shape(reader.number("i"), "q"))
    reader.skip(_item_size(dtype) * math.prod(stored) + index_bytes)
    return Array(reader.data[first : reader.at], shape, dtype, None)


def _read_dense(reader: Reader, first: int, shape: tuple[int, ...], unknown: bool) -> Array:
    if unknown:
        return Array(reader.data[first : reader.at], shape, 0, None)
    dtype = _dtype_after_context(reader)
    begin = reader.skip(_item_size(dtype) * math.prod(shape)) - first
    return Array(reader.data[first : reader.at], shape, dtype, begin)


def _dtype_after_context(reader: Reader) -> int:
    reader.skip(8)  # the type and index of the device it was on
    return reader.number("i")


def _item_size(dtype: int) -> int:
    if dtype not in _ITEM_SIZES:
        raise ValueError(f"an array of dtype number {dtype}")
    return _ITEM_SIZES[dtype]


def write(path: Path, checkpoint: Checkpoint) -> None:
    """Write the state."""
    (state,) = checkpoint.states
    with path.open("wb") as file:
        file.write(struct.pack("<QQQ", _FILE, 0, len(state)))
        for stored in state.values():
            file.write(stored.data)
        file.write(struct.pack("<Q", len(state)))
        for name in map(str.encode, state):
            file.write(struct.pack("<Q", len(name)) + name)


def shape(tensor: Array) -> tuple[int, ...]:
    """The shape of an array."""
    return tensor.shape


def array(tensor: Array) -> np.ndarray | None:
    """Its numbers in float32, or float64 if it is; None unless it is dense and floating-point."""
    if tensor.begin is None or tensor.dtype not in _FLOATING:
        return None
    stored = np.frombuffer(tensor.data, _FLOATING[tensor.dtype], offset=tensor.begin)
    numbers = widened(stored) if tensor.dtype == 12 else stored
    wide = np.float64 if tensor.dtype == 1 else np.float32
    return numbers.astype(wide).reshape(tensor.shape)


def tensor(array: np.ndarray, like: Array) -> Array:
    """The array in the dtype of `like`: dense, and on the CPU."""
    bits = narrowed(array) if like.dtype == 12 else array
    magic = _V3 if like.data.startswith(struct.pack("<I", _V3)) else _V2
    sizes = (array.ndim, *array.shape)
    head = struct.pack(f"<Iii{array.ndim}qiii", magic, 0, *sizes, 1, 0, like.dtype)
    numbers = np.ascontiguousarray(bits, _FLOATING[like.dtype]).tobytes()
    return Array(head + numbers, array.shape, like.dtype, len(head))


def identity(tensor: Array) -> Any:
    """The array itself: the format has no tied ones."""
    return id(tensor)
