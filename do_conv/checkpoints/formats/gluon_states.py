"""The states of a Gluon trainer, of which W and D' of a `DOConvTrainer` are read, without MXNet.

MXNet writes a pickle. It is read here without running code: no class that it names is imported, an
object is only what was stored of it, and an array's bytes are those of a `.params` file.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

from do_conv.checkpoints.formats import Checkpoint
from do_conv.checkpoints.formats.gluon import NAMING, Reader, array, identity, read_array, shape
from do_conv.checkpoints.layers import DELTA

__all__ = ["KIND", "NAMING", "array", "identity", "read", "shape"]

KIND = "Gluon trainer's states"


class _Stored:
    """Whatever object the pickle names: its state, and none of its code."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return object.__new__(cls)

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Unpickler(pickle.Unpickler):
    """A reader of pickles that imports nothing."""

    def find_class(self, module: str, name: str) -> Any:
        return bytearray if (module, name) == ("builtins", "bytearray") else _Stored


def read(path: Path) -> Checkpoint:
    """W and D' of each kernel, by the names that its layer would have; no other state is read."""
    content = _Unpickler(io.BytesIO(path.read_bytes())).load()
    states = content[0] if isinstance(content, tuple) else content
    if not isinstance(states, dict):
        raise ValueError("it does not hold states")
    named = [key for key in states if isinstance(key, str)]
    layers = {key.rpartition(".")[0] for key in named if key.endswith(f".{DELTA}")}
    own = [key for key in named if key.rpartition(".")[0] in layers]
    return Checkpoint(
        [{key: read_array(Reader(bytes(states[key].state["handle"]))) for key in own}]
    )
