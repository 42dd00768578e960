"""Memory and operators of a training step, by PyTorch's profiler."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from do_conv.core.spec import Spec

SIZES = ((64, 32, 32), (512, 4, 4), (512, 4, 32))
STEP = "the step that is measured"
NETWORKS = (("ResNet-18", 32, 4), ("MobileNetV2", 64, 8))


def rows(framework: Any, quick: bool, threads: int) -> Iterator[dict[str, Any]]:
    """Layers, whose memory is counted in kernels too, and networks."""
    for channels, size, batch in SIZES:
        spec = Spec(channels, channels, (3, 3))
        found = _measured(framework.training(spec, size, batch, "eager"))
        kernel = 4e-6 * channels**2 * spec.area
        plain = found["plain"]["MB"]
        for one in found.values():
            one["kernels more"] = (one["MB"] - plain) / kernel
        yield {"channels": channels, "size": size, "batch": batch, "found": found}
    for name, size, batch in () if quick else NETWORKS:
        found = _measured(framework.training_network(name, size, batch, "eager"))
        yield {"network": name, "size": size, "batch": batch, "found": found}
        found = _measured(framework.optimizing_network(name, size, batch, "eager"))
        yield {"network": name, "step": "with its optimizer", "size": size, "batch": batch,
               "found": found}  # fmt: skip


def _measured(steps: dict[str, Callable[[], Any]]) -> dict[str, dict[str, float]]:
    return {name: _profiled(step) for name, step in steps.items()}


def _profiled(step: Callable[[], Any]) -> dict[str, float]:
    """The most memory that a step has beyond the least, and the operators that it runs."""
    step()
    with torch.profiler.profile(profile_memory=True) as profile:
        step()  # frees what was there before, whose sizes a profile does not know
        with torch.profiler.record_function(STEP):
            step()
    events = sorted(profile.profiler.kineto_results.events(), key=lambda event: event.start_ns())
    began = next(event.start_ns() for event in events if event.name() == STEP)
    now, held = 0, []
    for event in events:
        if event.name() == "[memory]":
            now += event.nbytes()
            if event.start_ns() >= began:
                held.append(now)
    (whole,) = (event for event in profile.events() if event.name == STEP)
    within = [one for one in profile.events() if one.time_range.start >= whole.time_range.start]
    operators = [one for one in within if one.name.startswith("aten::") and not one.cpu_children]
    return {"MB": (max(held) - min(held)) / 1e6, "operators": len(operators)}
