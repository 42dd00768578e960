"""Plain and residual networks for images of 32 x 32, as in He et al., of plain layers.

Plain-N and ResNet-v1 follow "Deep Residual Learning for Image Recognition" (arXiv 1512.03385,
section 4.2), whose shortcuts have no parameters (option A); ResNet-v2 follows "Identity Mappings in
Deep Residual Networks" (arXiv 1603.05027), with a 1 x 1 convolution where a shortcut changes its
channels. Depth 164 has bottleneck blocks; the others have two 3 x 3 convolutions each. Stages 1 to
3 are `layer1` to `layer3`; stage 0 is the first convolution. `mobilenet_v2` and `resnext_29` have
three blocks in each stage, and halve the image in their first convolution: their wide layers make a
step at 32 x 32 five times as long, too long for five seeds on a CPU.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from examples.cifar.grouped import GroupedBottleneck, InvertedResidual

WIDTHS = (16, 32, 64)
DEPTHS = (20, 56, 110, 164)
GROUPED_BLOCKS = 3  # in each stage of a network with depthwise or grouped convolutions


def network(name: str, classes: int) -> nn.Module:
    """A network by name, such as `plain_20`, `resnet_v1_56`, `resnet_v2_164` or `mobilenet_v2`.

    Raises:
        ValueError: if there is no network of that name.
    """
    if name in GROUPED:
        return _Network(GROUPED[name], True, GROUPED_BLOCKS, classes, stride=2)
    kind, _, depth = name.rpartition("_")
    if kind not in _BLOCKS or depth not in map(str, DEPTHS):
        known = [*(f"{kind}_{depth}" for kind in _BLOCKS for depth in DEPTHS), *GROUPED]
        raise ValueError(f"no network {name!r}; there are {', '.join(known)}")
    bottleneck = int(depth) == 164
    blocks = (int(depth) - 2) // (9 if bottleneck else 6)
    return _Network(_BLOCKS[kind], bottleneck, blocks, classes)


def _conv(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)


class _Block(nn.Module):
    """The convolutions of a block and their normalisations."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        self.stride = stride
        self.outputs = width * self.expansion if bottleneck else width
        sizes = (1, 3, 1) if bottleneck else (3, 3)
        channels = [inputs, *[width] * (len(sizes) - 1), self.outputs]
        # The stride is in the first 3 x 3 convolution.
        steps = [stride if i == sizes.index(3) else 1 for i in range(len(sizes))]
        self.depth = len(sizes)
        for i, size in enumerate(sizes):
            self.add_module(f"conv{i + 1}", _conv(channels[i], channels[i + 1], size, steps[i]))
            normed = channels[i] if self.normalises_first else channels[i + 1]
            self.add_module(f"bn{i + 1}", nn.BatchNorm2d(normed))
        self.changes = stride != 1 or inputs != self.outputs
        self.inputs = inputs

    normalises_first = False

    def shortcut(self, x: Tensor) -> Tensor:
        """The input, every `stride`-th position of it, with channels of zeros added (option A)."""
        if not self.changes:
            return x
        more = self.outputs - self.inputs
        subsampled = x[:, :, :: self.stride, :: self.stride]
        return functional.pad(subsampled, (0, 0, 0, 0, more // 2, more - more // 2))

    def residual(self, x: Tensor) -> Tensor:
        """Convolution, normalisation, ReLU, without the last ReLU."""
        for i in range(1, self.depth + 1):
            x = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x))
            x = x if i == self.depth else torch.relu(x)
        return x


class _Plain(_Block):
    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.residual(x))


class _V1(_Block):
    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.shortcut(x) + self.residual(x))


class _V2(_Block):
    normalises_first = True

    def __init__(self, inputs: int, width: int, stride: int, bottleneck: bool) -> None:
        super().__init__(inputs, width, stride, bottleneck)
        if self.changes:
            self.projection = _conv(inputs, self.outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        active = torch.relu(self.bn1(x))
        shortcut = self.projection(active) if self.changes else x
        out = self.conv1(active)
        for i in range(2, self.depth + 1):
            out = getattr(self, f"conv{i}")(torch.relu(getattr(self, f"bn{i}")(out)))
        return shortcut + out


_BLOCKS = {"plain": _Plain, "resnet_v1": _V1, "resnet_v2": _V2}
GROUPED = {"mobilenet_v2": InvertedResidual, "resnext_29": GroupedBottleneck}


class _Network(nn.Module):
    def __init__(
        self, block: type[_Block | InvertedResidual | GroupedBottleneck], bottleneck: bool,
        blocks: int, classes: int, stride: int = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        self.conv1 = _conv(3, WIDTHS[0], 3, stride)
        channels = WIDTHS[0]
        self.normalises_last = block.normalises_first
        if not self.normalises_last:
            self.bn1 = nn.BatchNorm2d(channels)
        for stage, width in enumerate(WIDTHS, 1):
            layers = []
            for i in range(blocks):
                layers.append(block(channels, width, 2 if stage > 1 and i == 0 else 1, bottleneck))
                channels = layers[-1].outputs
            self.add_module(f"layer{stage}", nn.Sequential(*layers))
        if self.normalises_last:
            self.bn = nn.BatchNorm2d(channels)
        self.linear = nn.Linear(channels, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        x = x if self.normalises_last else torch.relu(self.bn1(x))
        x = self.layer3(self.layer2(self.layer1(x)))
        x = torch.relu(self.bn(x)) if self.normalises_last else x
        return self.linear(x.mean((2, 3)))
