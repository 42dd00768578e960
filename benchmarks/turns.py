"""Contenders take turns in one process, so that the machine's mood hits all alike."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

WARM_UP = 2
FEWEST, MOST = 5, 200
QUICK = 5  # times sooner


def wall_clock(run: Callable[[], Any]) -> float:
    """Seconds that a run takes."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def take_turns(
    contenders: Mapping[str, Callable[[], Any]],
    seconds: float,
    timed: Callable[[Callable[[], Any]], float] = wall_clock,
    quick: bool = False,
    fewest: int = FEWEST,
) -> dict[str, Any]:
    """Run all of them again and again.

    Args:
        contenders: what to run, by name; the first is what the others are held to.
        seconds: how long, about.
        timed: gives the seconds of a run.
        quick: whether to be done sooner, with at least three rounds.
        fewest: rounds, at least.

    Returns:
        for each name the median time of a round in seconds, the middle half of the times, and the
        median over the rounds of its ratio to the first one's time in the same round.
    """
    warm_up, fewest = (1, 3) if quick else (WARM_UP, fewest)
    for _ in range(warm_up):
        for run in contenders.values():
            run()
    times: dict[str, list[float]] = {name: [] for name in contenders}
    ends = time.perf_counter() + (seconds / QUICK if quick else seconds)
    rounds, order, chance = 0, list(contenders), random.Random(0)
    while rounds < fewest or (rounds < MOST and time.perf_counter() < ends):
        chance.shuffle(order)  # what ran before has its part in how long a run takes
        for name in order:
            times[name].append(timed(contenders[name]))
        rounds += 1
    first = next(iter(times.values()))
    return {name: _summary(own, first) for name, own in times.items()}


def _summary(times: list[float], first: list[float]) -> dict[str, Any]:
    low, median, high = statistics.quantiles(times, n=4)
    ratios = [one / other for one, other in zip(times, first, strict=True)]
    return {
        "rounds": len(times),
        "seconds": median,
        "middle_half": [low, high],
        "ratio": statistics.median(ratios),
    }
