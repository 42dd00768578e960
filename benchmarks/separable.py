"""Separable layers trained by kernel and by feature composition (section 3 of the paper).

Feature composition is how an ordinary separable layer computes; kernel composition trains it as one
convolution, and keeps W' where feature composition keeps the features P'.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.frameworks.torch import step_of
from benchmarks.turns import take_turns
from do_conv.core.cost import layer_cost
from do_conv.torch import DepthwiseSeparableConv2d

# Channels, image size, batch.
SIZES = ((32, 32, 32), (64, 28, 32), (128, 14, 32), (256, 7, 32), (512, 7, 8), (512, 2, 4))


def rows(framework: Any, quick: bool, threads: int) -> Iterator[dict[str, Any]]:
    """A row for each size, with the memory of what lies between the parameters and the output."""
    for channels, size, batch in SIZES[:1] if quick else SIZES:
        torch.manual_seed(0)
        layer = DepthwiseSeparableConv2d(channels, channels, 3, padding=1)
        x = torch.randn(batch, channels, size, size, requires_grad=True)
        grad = torch.randn_like(x)
        steps = {kind: _step(layer, kind, x, grad) for kind in ("feature", "kernel")}
        cost = layer_cost(layer.spec, (size, size), batch=batch)
        yield {
            "channels": channels, "size": size, "batch": batch,
            "MB of P'": cost.feature.intermediate_bytes / 1e6,
            "MB of W'": cost.kernel.intermediate_bytes / 1e6,
            "found": take_turns(steps, 4.0, quick=quick),
        }  # fmt: skip


def _step(layer: Any, composition: str, x: torch.Tensor, grad: torch.Tensor) -> Any:
    def run() -> torch.Tensor:
        layer.composition = composition
        return layer(x)

    return step_of(run, (x, *layer.parameters()), grad)
