"""PyTorch on a CUDA device: eager, compiled, and a step captured in a CUDA graph.

The steps are those of `frameworks/torch.py`, made on the device, in float32 and in bfloat16.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from benchmarks.frameworks import torch as on_cpu
from benchmarks.machine import TRIALS, Machine

DEVICE = "cuda"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
MODES = tuple(f"{way} {dtype}" for dtype in DTYPES for way in ("eager", "compiled", "captured"))
NETWORKS = on_cpu.NETWORKS
# What is trained with W and D' in the optimizer, by mode.
OPTIMIZED = {
    f"{way} bfloat16": (("ResNet-50", 224, 128),) for way in ("eager", "compiled", "captured")
}
COPIED, SIDE = 2**30, 8192  # as in `machine.py`, for a device
WARM_UP = 3  # steps before a capture, as PyTorch's notes on CUDA graphs have them


def versions() -> dict[str, str]:
    """The versions of PyTorch and CUDA, and the device."""
    return {
        **on_cpu.versions(),
        "cuda": str(torch.version.cuda),
        "device": torch.cuda.get_device_name(),
    }


set_threads = on_cpu.set_threads


def timed(run: Callable[[], Any]) -> float:
    """Seconds between two events on the device, with all that was launched in between."""
    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    began.record()
    run()
    ended.record()
    torch.cuda.synchronize()
    return began.elapsed_time(ended) / 1000


def rates(threads: int, mode: str) -> Machine:
    """The rates of the device, for numbers of a mode's type."""
    dtype = DTYPES[mode.split()[1]]
    given = torch.ones(COPIED // dtype.itemsize, dtype=dtype, device=DEVICE)
    written = torch.empty_like(given)
    left, right = torch.rand((2, SIDE, SIDE), dtype=dtype, device=DEVICE)
    runs = (lambda: written.copy_(given), lambda: left @ right)
    copying, multiplying = (statistics.median(timed(run) for _ in range(TRIALS)) for run in runs)
    return Machine(2 * COPIED / copying, 2 * SIDE**3 / multiplying, dtype.itemsize)


def _made(maker: str, *sizes: Any) -> dict[str, Callable[[], Any]]:
    """The steps of `frameworks/torch.py`, of a mode of this module."""
    *others, mode = sizes
    way, dtype = mode.split()
    with _on_device(DTYPES[dtype]):
        steps = getattr(on_cpu, maker)(*others, "compiled" if way == "compiled" else "eager")
    return {name: _captured(step) if way == "captured" else step for name, step in steps.items()}


composing = partial(_made, "composing")
training = partial(_made, "training")
training_network = partial(_made, "training_network")
optimizing_network = partial(_made, "optimizing_network")
evaluating_network = partial(_made, "evaluating_network")


@contextmanager
def _on_device(dtype: torch.dtype) -> Iterator[None]:
    """Tensors and modules are made there, and of that type."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(DEVICE):
            yield
    finally:
        torch.set_default_dtype(before)


def _captured(step: Callable[[], Any]) -> Callable[[], Any]:
    """A step's kernels, launched as one."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()

    def replay(_: Any = step) -> None:
        """A graph has addresses alone: the step keeps the arrays that are there."""
        graph.replay()

    return replay
