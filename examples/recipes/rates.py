"""How the learning rate goes: a factor for each step, counted from 0."""

from __future__ import annotations

import math
from collections.abc import Callable

Factor = Callable[[int], float]
POWER = 0.9


def cosine(steps: int, warmup: int) -> Factor:
    """Linear over the first steps, then a half cosine to zero."""

    def factor(step: int) -> float:
        done = step + 1
        if done <= warmup:
            return done / warmup
        return 0.5 * (1 + math.cos(math.pi * (done - warmup) / (steps - warmup)))

    return factor


def poly(steps: int) -> Factor:
    """A straight line to zero, to the power of 0.9."""
    return lambda step: (1 - step / steps) ** POWER


def tenths(falls: tuple[float, ...], warmup: int) -> Factor:
    """Linear over the first steps from a tenth, then a tenth of it after each of `falls` steps."""

    def factor(step: int) -> float:
        begun = 1.0 if step >= warmup else 0.1 + 0.9 * step / warmup
        return begun * 0.1 ** sum(step >= fall for fall in falls)

    return factor
