"""What He et al. train with, how long a run is, and how the learning rate goes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

BATCH, RATE, MOMENTUM, DECAY = 128, 0.1, 0.9, 1e-4


@dataclass(frozen=True)
class Schedule:
    """A number of epochs, and the factor of the learning rate.

    Attributes:
        factor: a function of the step, from 0, and of the steps in an epoch.
    """

    epochs: int
    factor: Callable[[int, int], float]


def _cosine(epochs: int, warmup: int) -> Schedule:
    """Linear over the first epochs, then a half cosine to zero."""

    def factor(step: int, steps: int) -> float:
        epoch = (step + 1) / steps
        if epoch <= warmup:
            return epoch / warmup
        return 0.5 * (1 + math.cos(math.pi * (epoch - warmup) / (epochs - warmup)))

    return Schedule(epochs, factor)


def _he() -> Schedule:
    """He et al.: 64,000 iterations of batch 128, a tenth after 32,000 and again after 48,000."""

    def factor(step: int, steps: int) -> float:
        return 1.0 if step < 32_000 else 0.1 if step < 48_000 else 0.01

    return Schedule(164, factor)  # 64,000 iterations of 391 to an epoch


SCHEDULES = {"short": _cosine(12, 1), "medium": _cosine(40, 2), "full": _he()}
