"""Safetensors files: every tensor keeps its bytes, whatever its dtype."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from do_conv.checkpoints.formats import Checkpoint
from do_conv.checkpoints.formats.bfloat16 import narrowed, widened
from do_conv.checkpoints.layers import TORCH
from do_conv.core.errors import require_installed

KIND = "safetensors"
NAMING = TORCH

_FLOATING = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_OTHERS = {
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "<i1", "U8": "<u1", "BOOL": "<?",
}  # fmt: skip
_DTYPES = {**_FLOATING, **_OTHERS}
# The format's names of the frameworks' dtypes.
NAMES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64",
    "int32": "I32", "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip
_WORDS = 8  # The header is padded to 8 bytes, so that the data is aligned.


@dataclass(frozen=True, eq=False)
class Raw:
    """A tensor as it is stored.

    Attributes:
        dtype: its name in the format, such as "F32" or "BF16".
        shape: the sizes of its axes.
        data: its bytes, in C order, little-endian.
    """

    dtype: str
    shape: tuple[int, ...]
    data: bytes

    @classmethod
    def of(cls, array: np.ndarray, dtype: str) -> Raw:
        """An array, rounded to a dtype of `NAMES`."""
        bits = narrowed(array) if dtype == "BF16" else array
        return cls(dtype, array.shape, np.ascontiguousarray(bits, _DTYPES[dtype]).tobytes())

    def array(self) -> np.ndarray | None:
        """Its numbers in float32, or float64 if it is; None unless it is floating-point."""
        if self.dtype not in _FLOATING:
            return None
        return self.numbers().astype(np.float64 if self.dtype == "F64" else np.float32)

    def numbers(self) -> np.ndarray:
        """Its numbers in a dtype of NumPy's, of the names in `NAMES`; bfloat16 in float32."""
        stored = np.frombuffer(self.data, _DTYPES[self.dtype]).reshape(self.shape)
        return widened(stored) if self.dtype == "BF16" else stored


def read(path: Path) -> Checkpoint:
    """The one state of a file; the rest is its metadata."""
    require_installed("safetensors", extra="files", user="a safetensors file")
    import safetensors

    data = path.read_bytes()
    # The library has checked every offset, so the header is valid JSON from here on.
    tensors = safetensors.deserialize(data)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    order = list(header)
    state = {
        name: Raw(stored["dtype"], tuple(stored["shape"]), bytes(stored["data"]))
        for name, stored in sorted(tensors, key=lambda item: order.index(item[0]))
    }
    return Checkpoint([state], header.get("__metadata__"))


def write(path: Path, checkpoint: Checkpoint) -> None:
    """Write the state and the metadata."""
    write_raw(path, checkpoint.states[0], checkpoint.rest)


def write_raw(path: Path, state: Mapping[str, Raw], metadata: Mapping[str, str] | None) -> None:
    """Write named tensors in their order."""
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": dict(metadata)}
    end = 0
    for name, raw in state.items():
        begin, end = end, end + len(raw.data)
        header[name] = {"dtype": raw.dtype, "shape": list(raw.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _WORDS)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for raw in state.values():
            file.write(raw.data)


def shape(tensor: Raw) -> tuple[int, ...]:
    """The shape of a tensor."""
    return tensor.shape


def array(tensor: Raw) -> np.ndarray | None:
    """Its numbers; None unless it is floating-point."""
    return tensor.array()


def tensor(array: np.ndarray, like: Raw) -> Raw:
    """The array in the dtype of `like`."""
    return Raw.of(array, like.dtype)


def identity(tensor: Raw) -> Any:
    """The tensor itself: the format has no tied ones."""
    return id(tensor)
