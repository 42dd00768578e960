"""W and D' in the optimizer: a step of one kernel, and training steps of networks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.turns import take_turns

CHANNELS = (64, 128, 256, 512)
SECONDS = 3.0
ROUNDS = 15  # of training steps, at least: W and D' add less to a long one than two of them differ


def rows(framework: Any, quick: bool, threads: int) -> Iterator[dict[str, Any]]:
    """A row for each optimizer and number of channels, then for each mode and network."""
    for name in getattr(framework, "OPTIMIZERS", ()):
        for channels in CHANNELS[-1:] if quick else CHANNELS:
            found = take_turns(framework.optimizing(name, channels), SECONDS, quick=quick)
            about = {"optimizer": name, "channels": channels}
            yield from _with_parts(framework, "one kernel", about, found)
    for mode, networks in framework.OPTIMIZED.items():
        for name, size, batch in networks[:1] if quick else networks:
            steps = framework.optimizing_network(name, size, batch, mode)
            found = take_turns(steps, 10 * SECONDS, framework.timed, quick, ROUNDS)
            about = {"mode": mode, "network": name, "size": size, "batch": batch}
            yield from _with_parts(framework, "training", about, found)
            if alone := getattr(framework, "stepping_network", None):
                steps = alone(name, size, batch, mode)
                found = take_turns(steps, 5 * SECONDS, lambda run: run(), quick)
                yield {"step": "the optimizer's step in it", **about, "found": found}
            if evaluating := getattr(framework, "evaluating_trained", None):
                steps = evaluating(name, size, batch, mode)
                found = take_turns(steps, 5 * SECONDS, framework.timed, quick)
                yield {"step": "evaluation between steps", **about, "found": found}
        if quick:
            break


def _with_parts(
    framework: Any, step: str, about: dict[str, Any], found: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """A row, and another for the parts of a step if they were measured."""
    parts = {kind: found.pop(kind) for kind in getattr(framework, "PARTS", ()) if kind in found}
    yield {"step": step, **about, "found": found}
    if parts:
        yield {"step": "its parts", **about, "found": {"plain": found["plain"], **parts}}
