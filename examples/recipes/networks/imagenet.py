"""The networks of Tables 2 and 3, by the paper's names; the paper's own are those of GluonCV.

| here | network |
|---|---|
| `plain_18` | ResNet-18 without shortcuts: torchvision's `ResNet` of our block |
| `resnet_v1_18`, `_34` | torchvision's `resnet18`, `resnet34`: without bottlenecks v1 is v1b |
| `resnet_v1_50`, `_101`, `_152` | torchvision's `ResNet`, the stride in the first 1 x 1 |
| `resnet_v1b_N` | torchvision's `resnetN`, the stride in the 3 x 3 convolution |
| `resnet_v2_N` | written in `residual.py`: normalisation and ReLU before each convolution |
| `resnext_50_32x4d` | torchvision's `resnext50_32x4d` |
| `mobilenet_v1` | written in `mobile.py` |
| `mobilenet_v2`, `mobilenet_v3` | torchvision's `mobilenet_v2`, `mobilenet_v3_large` |

GluonCV's v1 has biases in its 1 x 1 convolutions, which the normalisation after them takes away;
they are left out here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn
from torchvision import models

from examples.recipes.networks.mobile import MobileNetV1
from examples.recipes.networks.residual import (
    BLOCKS,
    SMALLEST_BOTTLENECK,
    PreActivation,
    Shortcutless,
    StrideFirst,
)


def residual(depth: int, classes: int, block: Any = None, **options: Any) -> models.ResNet:
    """Torchvision's ResNet of a depth; by default with its own blocks (v1b)."""
    is_small = depth < SMALLEST_BOTTLENECK
    standard = models.resnet.BasicBlock if is_small else models.resnet.Bottleneck
    return models.ResNet(block or standard, list(BLOCKS[depth]), num_classes=classes, **options)


def _torchvision(name: str) -> Callable[[int], nn.Module]:
    return lambda classes: getattr(models, name)(weights=None, num_classes=classes)


def _networks() -> dict[str, Callable[[int], nn.Module]]:
    found: dict[str, Callable[[int], nn.Module]] = {
        "Plain-18": lambda classes: residual(18, classes, Shortcutless)
    }
    for depth in BLOCKS:
        block = None if depth < SMALLEST_BOTTLENECK else StrideFirst
        found[f"ResNet-v1-{depth}"] = partial(residual, depth, block=block)
    found |= {f"ResNet-v1b-{depth}": partial(residual, depth) for depth in BLOCKS}
    found |= {f"ResNet-v2-{depth}": partial(PreActivation, depth) for depth in BLOCKS}
    return found | {
        "ResNeXt-50-32x4d": _torchvision("resnext50_32x4d"),
        "MobileNet-v1": MobileNetV1,
        "MobileNet-v2": _torchvision("mobilenet_v2"),
        "MobileNet-v3": _torchvision("mobilenet_v3_large"),
    }


LABELS = {label.lower().replace("-", "_"): label for label in _networks()}
NETWORKS = {label.lower().replace("-", "_"): make for label, make in _networks().items()}
