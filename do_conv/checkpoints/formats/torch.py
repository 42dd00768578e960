"""PyTorch's files: state dicts, also inside dicts and lists, read without running code."""

from __future__ import annotations

import argparse
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from do_conv.checkpoints.formats import Checkpoint
from do_conv.checkpoints.layers import DELTA, TORCH
from do_conv.core.errors import broken, require_installed

require_installed("torch", extra="torch", user="a PyTorch checkpoint")

import torch  # noqa: E402

KIND = "PyTorch"
NAMING = TORCH

_FLOATING = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
# Types that training scripts save beside the weights; they hold only attributes.
_PLAIN: list[Any] = [argparse.Namespace]


def read(path: Path) -> Checkpoint:
    """The states in a file, at any depth.

    Raises:
        DOConvError: if its pickle asks for anything but tensors and plain containers.
    """
    try:
        with torch.serialization.safe_globals(_PLAIN):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # bytes that are no pickle can raise any exception
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        if isinstance(error, pickle.UnpicklingError) and asked:
            raise broken(
                "a PyTorch checkpoint must hold tensors and plain containers only",
                f"{path}, which asks for {asked[1]}",
                "save the state dict alone, torch.save(model.state_dict(), path)",
            ) from None
        raise ValueError("not from torch.save, damaged, or with code in it") from None
    dicts = list(_dicts(content, set()))
    of_optimizers = [inside for inside in dicts if {"state", "param_groups"} <= inside.keys()]
    own = {id(one) for inside in of_optimizers for one in _of_kernels(inside).values()}
    states = [inside for inside in dicts if _has_tensors(inside) and id(inside) not in own]
    kernels = [_kernels(inside) for inside in of_optimizers]
    size = path.stat().st_size
    for state in states:
        for tensor in state.values():
            # A tensor larger than its storage would show uninitialised memory.
            if isinstance(tensor, torch.Tensor) and _stored_bytes(tensor) > size:
                raise ValueError("a tensor larger than the file")
    # A damaged pickle may give tensors attributes that cannot be saved.
    torch.save(content, _Sink())  # type: ignore[arg-type]  # it has what is called
    return Checkpoint(states, content, kernels)


class _Sink:
    """A file that writes to another, or nowhere, and keeps the error of one that is full.

    PyTorch says of such an error only that less was written than it thought.
    """

    def __init__(self, file: Any = None) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write the data, and return the number of bytes."""
        try:
            return len(memoryview(data).cast("B")) if self._file is None else self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        """Do nothing: no data is held back."""


def write(path: Path, checkpoint: Checkpoint) -> None:
    """Write everything that was read, with the states as they are now."""
    save(checkpoint.rest, path)


def save(content: Any, path: Path) -> None:
    """`torch.save`, which says of a full disk that it is full.

    Raises:
        OSError: if the file cannot be written.
    """
    with path.open("wb", buffering=0) as file:
        sink = _Sink(file)
        try:
            torch.save(content, sink)  # type: ignore[arg-type]  # it has what is called
        except RuntimeError as error:
            raise sink.error or error from None


def shape(tensor: Any) -> tuple[int, ...] | None:
    """The shape of a tensor; None for anything else."""
    return tuple(tensor.shape) if isinstance(tensor, torch.Tensor) else None


def array(tensor: torch.Tensor) -> np.ndarray | None:
    """The tensor in float32, or float64 if it is."""
    if tensor.dtype not in _FLOATING or tensor.layout != torch.strided or tensor.is_meta:
        return None
    wide = torch.float64 if tensor.dtype == torch.float64 else torch.float32
    return tensor.detach().to(wide).numpy()


def tensor(array: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    """The array in the dtype of `like`, a parameter if that is one."""
    copy = torch.from_numpy(np.ascontiguousarray(array)).to(like.dtype)
    if isinstance(like, torch.nn.Parameter):
        return torch.nn.Parameter(copy, requires_grad=like.requires_grad)
    return copy


def identity(tensor: torch.Tensor) -> Any:
    """The tensor's place in memory: tied tensors stay tied."""
    return tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride()


def _dicts(content: Any, seen: set[int]) -> Iterator[dict[Any, Any]]:
    """Each dict, at any depth, once."""
    if id(content) in seen:
        return
    seen.add(id(content))
    if isinstance(content, dict):
        yield content
        content = content.values()
    elif not isinstance(content, (list, tuple)):
        return
    for value in content:
        yield from _dicts(value, seen)


def _has_tensors(content: dict[Any, Any]) -> bool:
    """Whether a dict holds a tensor under a name."""
    return any(isinstance(v, torch.Tensor) and isinstance(k, str) for k, v in content.items())


def _of_kernels(optimizer: dict[Any, Any]) -> dict[Any, dict[str, Any]]:
    """The kernels in the state of a `DOConvOptimizer`, by number or by name."""
    state = optimizer["state"]
    states = state.items() if isinstance(state, dict) else ()
    return {key: own for key, own in states if isinstance(own, dict) and DELTA in own}


def _kernels(optimizer: dict[Any, Any]) -> dict[str, Any]:
    """W and D' in the state of a `DOConvOptimizer`, by the names that layers would give them."""
    names: dict[Any, Any] = {}
    for group in optimizer["param_groups"]:
        numbers = group.get("params", ())
        names.update(zip(numbers, group.get("param_names", numbers), strict=False))
    kernels = {}
    for key, own in _of_kernels(optimizer).items():
        name = names.get(key, key)
        layer = name[: -len("weight")] if isinstance(name, str) else f"parameter {name}."
        kernels.update({f"{layer}{role}": own[role] for role in ("weight", DELTA) if role in own})
    return kernels


def _stored_bytes(tensor: torch.Tensor) -> int:
    if tensor.layout != torch.strided or tensor.is_meta:
        return 0
    return tensor.untyped_storage().nbytes()
