"""Blocks with depthwise and grouped convolutions, for images of 32 x 32.

The inverted residual is that of MobileNet-v2 (arXiv 1801.04381, section 3.3), the grouped
bottleneck that of ResNeXt (arXiv 1611.05431, figure 3c). Both take the place of a block of
`examples.cifar.networks`, with the widths there.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

EXPANSION = 6  # of MobileNet-v2
GROUPS = 8  # of ResNeXt


def _normalised(
    inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1
) -> nn.Module:
    convolution = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))


class InvertedResidual(nn.Module):
    """1 x 1 to more channels, depthwise 3 x 3, 1 x 1; no shortcut where sizes change."""

    normalises_first = False

    def __init__(self, inputs: int, width: int, stride: int, bottleneck: bool = False) -> None:
        super().__init__()
        wide = EXPANSION * inputs
        self.outputs = width
        self.expand = _normalised(inputs, wide, 1)
        self.depthwise = _normalised(wide, wide, 3, stride, groups=wide)
        self.project = _normalised(wide, width, 1)
        self.adds = stride == 1 and inputs == width

    def forward(self, x: Tensor) -> Tensor:
        """The sum, or the residual alone."""
        wide = functional.relu6(self.depthwise(functional.relu6(self.expand(x))))
        return x + self.project(wide) if self.adds else self.project(wide)


class GroupedBottleneck(nn.Module):
    """1 x 1, grouped 3 x 3, 1 x 1 to four times the width; a 1 x 1 shortcut where sizes change."""

    normalises_first = False

    def __init__(self, inputs: int, width: int, stride: int, bottleneck: bool = True) -> None:
        super().__init__()
        self.outputs = 4 * width
        inner = 2 * width
        self.reduce = _normalised(inputs, inner, 1)
        self.grouped = _normalised(inner, inner, 3, stride, groups=GROUPS)
        self.expand = _normalised(inner, self.outputs, 1)
        changes = stride != 1 or inputs != self.outputs
        self.shortcut = _normalised(inputs, self.outputs, 1, stride) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """The sum, after a ReLU."""
        inner = torch.relu(self.grouped(torch.relu(self.reduce(x))))
        return torch.relu(self.shortcut(x) + self.expand(inner))
