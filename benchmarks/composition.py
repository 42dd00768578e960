"""Composition alone, forward and backward: channels, kernels, groups, in every framework.

Beside the contenders stands the floor: what the machine takes to move and multiply so many numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.turns import take_turns
from do_conv.core.spec import Spec

CHANNELS = (16, 64, 256, 512, 1024, 2048)
KERNELS = (3, 5, 7)
GROUPS = (1, 32, "depthwise")
QUICK = ((64, 3, 1), (512, 3, 1))
LARGEST = 512 * 512 * 49  # numbers in a kernel; five or so are in memory at a time


def rows(framework: Any, quick: bool, threads: int) -> Iterator[dict[str, Any]]:
    """A row for each mode and each size."""
    sizes = QUICK if quick else tuple(_sizes())
    for mode in framework.MODES:
        if mode == "contiguous":
            continue  # nothing is convolved here
        rates = framework.rates(threads, mode)
        for channels, kernel, groups in sizes:
            number = channels if groups == "depthwise" else groups
            spec = Spec(channels, channels, (kernel, kernel), number)
            steps = framework.composing(spec, mode)
            found = take_turns(steps, 1.0, framework.timed, quick)
            found["floor"] = {"seconds": rates.composing(spec)}
            yield {
                "mode": mode, "channels": channels, "kernel": kernel, "groups": groups,
                "found": found,
            }  # fmt: skip


def _sizes() -> Iterator[tuple[int, int, Any]]:
    for groups in GROUPS:
        for kernel in KERNELS:
            for channels in CHANNELS:
                inputs = {1: channels, "depthwise": 1}.get(groups, channels // 32)
                if inputs and channels * inputs * kernel**2 <= LARGEST:
                    yield channels, kernel, groups
