"""What the machine can do, measured in the run: no code is faster than its floor."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from do_conv.core.spec import Spec

COPIED = 2**25  # bytes; more than a processor's cache
SIDE = 1536  # of the matrices that are multiplied
TRIALS = 9


class Machine(NamedTuple):
    """Its rates.

    Attributes:
        bandwidth: bytes read and written in a second.
        flops: operations in a second, of a large product of matrices.
        itemsize: bytes of a number.
    """

    bandwidth: float
    flops: float
    itemsize: int = 4

    def composing(self, spec: Spec) -> float:
        """The least seconds of composing a kernel, forward and backward.

        Forward W is read and W' written; backward W and the gradient are read and that of W is
        written; D' is small. There are three products, of two operations a term.
        """
        numbers = spec.rows * spec.group_channels
        moved = self.itemsize * numbers * (2 * spec.d_mul + spec.area + spec.d_mul + spec.area)
        return max(moved / self.bandwidth, 6 * numbers * spec.d_mul * spec.area / self.flops)


def rates(threads: int, mode: str) -> Machine:
    """Those of so many threads in float32, which is that of every mode."""
    given = np.ones(COPIED // 4, np.float32)
    written = np.empty_like(given)
    left, right = np.random.default_rng(0).random((2, SIDE, SIDE), np.float32)
    with ThreadPoolExecutor(threads) as pool:
        parts = [np.array_split(one, threads) for one in (written, given)]

        def copy() -> None:
            list(pool.map(np.copyto, *parts))

        return Machine(2 * COPIED / _seconds(copy), 2 * SIDE**3 / _seconds(lambda: left @ right))


def _seconds(run: Callable[[], Any]) -> float:
    times = []
    for _ in range(TRIALS):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return statistics.median(times)
