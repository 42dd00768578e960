"""A training step of one layer: plain, by the authors' formula, ours, in every framework."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.turns import take_turns
from do_conv.core.spec import Spec

# Channels, image size, batch.
SIZES = (
    (64, 32, 4), (64, 32, 32), (64, 56, 16), (256, 14, 4), (256, 14, 32), (512, 4, 4), (512, 4, 32),
    (512, 7, 64),
)  # fmt: skip
QUICK = ((512, 4, 32),)


def rows(framework: Any, quick: bool, threads: int) -> Iterator[dict[str, Any]]:
    """A row for each mode and each size."""
    for mode in framework.MODES:
        for channels, size, batch in QUICK if quick else SIZES:
            spec = Spec(channels, channels, (3, 3))
            steps = framework.training(spec, size, batch, mode)
            found = take_turns(steps, 2.0, framework.timed, quick)
            yield {"mode": mode, "channels": channels, "size": size, "batch": batch, "found": found}
