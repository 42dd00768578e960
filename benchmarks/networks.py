"""Whole networks: a training step, and an evaluation of ten batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.turns import take_turns

# Network, image size, batch.
SIZES = (
    ("ResNet-18", 32, 4), ("ResNet-18", 32, 32), ("ResNet-18", 128, 2), ("ResNet-50", 64, 16),
    ("ResNet-50", 224, 1), ("MobileNetV2", 32, 64), ("MobileNetV2", 224, 2), ("U-Net", 128, 1),
    ("U-Net", 64, 8),
)  # fmt: skip
SECONDS = 5.0
# A compiler takes minutes for a network, and so does the authors' formula in Gluon.
SMALL = (("ResNet-18", 32, 4), ("ResNet-18", 32, 32))
FEWER = {
    "compiled": SMALL, "contiguous": SMALL, "XLA": (("ResNet-50", 64, 16),), "imperative": SMALL,
    "hybridized": (*SMALL, ("MobileNetV2", 32, 64)),
}  # fmt: skip


def rows(framework: Any, quick: bool, threads: int) -> Iterator[dict[str, Any]]:
    """A row for each mode, network and size, of training and of evaluation."""
    smallest = ((next(iter(framework.NETWORKS)), 32, 4),)
    for mode in framework.MODES[:1] if quick else framework.MODES:
        for name, size, batch in smallest if quick else FEWER.get(mode.split()[0], SIZES):
            if name not in framework.NETWORKS:
                continue
            about = {"mode": mode, "network": name, "size": size, "batch": batch}
            steps = framework.training_network(name, size, batch, mode)
            found = take_turns(steps, SECONDS, framework.timed, quick)
            if mode == "eager":
                found["estimate"] = {"of plain": framework.step_ratio(name, size, batch)}
            yield {"step": "training", **about, "found": found}
            steps = framework.evaluating_network(name, size, batch, mode)
            found = take_turns(steps, SECONDS, framework.timed, quick)
            yield {"step": "evaluation", **about, "found": found}
