"""The residual networks of the paper that torchvision does not have, of plain layers.

`StrideFirst` is the bottleneck of ResNet v1: its stride is in the first 1 x 1 convolution, where
torchvision (and GluonCV's v1b) has it in the 3 x 3. `Shortcutless` is the block of Plain-18. Both
are blocks for `torchvision.models.ResNet`. `PreActivation` is ResNet v2 as in He et al., "Identity
Mappings in Deep Residual Networks" (arXiv 1603.05027), with GluonCV's stem: the image is
normalised, and the first convolution too.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

WIDTHS = (64, 128, 256, 512)
BLOCKS = {
    18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3),
}  # fmt: skip
SMALLEST_BOTTLENECK = 50  # networks of this depth or more have bottleneck blocks


class StrideFirst(Bottleneck):
    """A bottleneck block with its stride in the first convolution."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.conv1.stride, self.conv2.stride = self.conv2.stride, self.conv1.stride


class Shortcutless(BasicBlock):
    """Two convolutions, and nothing beside them."""

    def __init__(
        self, inputs: int, width: int, stride: int = 1, downsample: Any = None, *others: Any,
        **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(inputs, width, stride, None, *others, **options)

    def forward(self, x: Tensor) -> Tensor:
        """Convolution, normalisation, ReLU, twice."""
        x = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(x)))


class _Block(nn.Module):
    """Normalisation, ReLU, convolution, two or three times; the shortcut begins after a ReLU."""

    def __init__(self, inputs: int, width: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        self.outputs = 4 * width if bottleneck else width
        sizes = (1, 3, 1) if bottleneck else (3, 3)
        channels = (inputs, *[width] * (len(sizes) - 1), self.outputs)
        strided = sizes.index(3)
        self.norms = nn.ModuleList(nn.BatchNorm2d(one) for one in channels[:-1])
        self.convs = nn.ModuleList(
            _conv(channels[i], channels[i + 1], size, stride if i == strided else 1)
            for i, size in enumerate(sizes)
        )
        changes = inputs != self.outputs
        self.projection = _conv(inputs, self.outputs, 1, stride) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        shortcut, out = x, x
        for i, (norm, conv) in enumerate(zip(self.norms, self.convs, strict=True)):
            out = torch.relu(norm(out))
            if i == 0 and self.projection is not None:
                shortcut = self.projection(out)
            out = conv(out)
        return shortcut + out


class PreActivation(nn.Module):
    """ResNet v2.

    Args:
        depth: 18, 34, 50, 101 or 152.
        classes: how many.
    """

    def __init__(self, depth: int, classes: int) -> None:
        super().__init__()
        channels, bottleneck = WIDTHS[0], depth >= SMALLEST_BOTTLENECK
        self.bn0 = nn.BatchNorm2d(3, affine=False)
        self.conv1, self.bn1 = _conv(3, channels, 7, 2), nn.BatchNorm2d(channels)
        self.pool = nn.MaxPool2d(3, 2, 1)
        for stage, (blocks, width) in enumerate(zip(BLOCKS[depth], WIDTHS, strict=True), 1):
            layers = []
            for i in range(blocks):
                stride = 2 if stage > 1 and i == 0 else 1
                layers.append(_Block(channels, width, stride, bottleneck))
                channels = layers[-1].outputs
            self.add_module(f"layer{stage}", nn.Sequential(*layers))
        self.bn = nn.BatchNorm2d(channels)
        self.fc = nn.Linear(channels, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """The classes' scores, `(N, classes)`."""
        x = self.pool(torch.relu(self.bn1(self.conv1(self.bn0(x)))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.relu(self.bn(x)).mean((2, 3)))


def _conv(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
