"""How a training step grows, and where feature composition becomes cheaper, in PyTorch.

Beside each size stands which composition has fewer multiply-accumulates, and which one the estimate
of a step's time has for the faster.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from benchmarks.frameworks.torch import step_of
from benchmarks.turns import take_turns
from do_conv.core.cost import layer_cost
from do_conv.core.spec import Spec
from do_conv.models import estimate
from do_conv.torch import DOConv2d

# One of them is varied at a time.
BASE = {"channels": 128, "size": 8, "batch": 8, "d_mul": 9}
VARIED = {
    "batch": (1, 2, 8, 32, 64), "size": (1, 2, 4, 8, 16, 32), "channels": (16, 64, 256, 512),
    "d_mul": (9, 18, 25, 36),
}  # fmt: skip


def rows(framework: Any, quick: bool, threads: int) -> Iterator[dict[str, Any]]:
    """A row for each size; plain, and both compositions."""
    for name, values in VARIED.items():
        for value in values[:: len(values) - 1] if quick else values:
            about = {**BASE, name: value}
            spec = Spec(about["channels"], about["channels"], (3, 3), d_mul=about["d_mul"])
            maps, batch = (about["size"],) * 2, about["batch"]
            cheaper = {
                "fewer MACs": layer_cost(spec, maps, batch=batch).cheaper,
                "estimate": estimate.faster(spec, [maps], batch),
            }
            found = take_turns(_steps(spec, **about), 2.0, quick=quick)
            yield {"varied": name, **about, **cheaper, "found": found}


def _steps(spec: Spec, channels: int, size: int, batch: int, d_mul: int) -> dict[str, Any]:
    torch.manual_seed(0)
    x = torch.randn(batch, channels, size, size, requires_grad=True)
    grad = torch.randn_like(x)
    layers: dict[str, nn.Module] = {"plain": nn.Conv2d(channels, channels, 3, padding=1)}
    for composition in ("kernel", "feature"):
        layers[composition] = DOConv2d(
            channels, channels, 3, padding=1, d_mul=d_mul, composition=composition
        )
    return {
        name: step_of(lambda layer=layer: layer(x), (x, *layer.parameters()), grad)
        for name, layer in layers.items()
    }
