"""One process, or several that `torchrun` has started: what they do together."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist


def rank() -> int:
    """Which process this is, from 0."""
    return int(os.environ.get("RANK", "0"))


def world() -> int:
    """How many processes there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def device_of(name: str | None) -> torch.device:
    """The device by name; without one a GPU if there is one, else the CPU.

    Raises:
        ValueError: if it is a GPU, and there is none.
    """
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda needs a GPU, and PyTorch finds none: give --device cpu")
    if name != "cuda":
        return torch.device(name)
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


@contextlib.contextmanager
def group(device: torch.device) -> Iterator[None]:
    """The processes as one group, within the context."""
    if world() == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def wrapped(model: nn.Module, device: torch.device, synchronised: bool) -> nn.Module:
    """The model whose gradients are the mean over the processes.

    Args:
        model: is on `device`.
        device: of this process.
        synchronised: whether batch normalisation sees the images of all processes.

    Raises:
        ValueError: if normalisation is to be synchronised where it cannot be.
    """
    if synchronised and (world() == 1 or device.type != "cuda"):
        raise ValueError("--sync-bn needs several processes with a GPU each: start with torchrun")
    if world() == 1:
        return model
    if synchronised:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    here = [device] if device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(model, device_ids=here)


def shared(value: Any) -> Any:
    """The value that the first process has."""
    if world() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]


def summed(values: Tensor) -> Tensor:
    """The sum over the processes."""
    if world() > 1:
        dist.all_reduce(values)
    return values


def gathered(values: list[Any]) -> list[Any]:
    """The items of all processes."""
    if world() == 1:
        return values
    boxes: list[Any] = [None] * world()
    dist.all_gather_object(boxes, values)
    return [value for box in boxes for value in box]


def same_buffers(model: nn.Module) -> None:
    """Give every process the running averages of the first, which are those that are kept."""
    if world() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)
