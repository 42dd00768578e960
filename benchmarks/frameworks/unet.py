"""A network of the kind of U-Net, in PyTorch: what image restoration and segmentation train."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTHS = (32, 64, 128, 256)


class UNet(nn.Module):
    """Down in steps of two, and up again with what was left on the way down: `(N, 3, H, W)`."""

    def __init__(self) -> None:
        super().__init__()
        inputs = (3, *WIDTHS)
        self.down = nn.ModuleList(_block(*pair) for pair in zip(inputs, WIDTHS, strict=False))
        above = WIDTHS[::-1]
        self.up = nn.ModuleList(
            _block(below + beside, beside) for below, beside in itertools.pairwise(above)
        )
        self.last = nn.Conv2d(WIDTHS[0], 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """An image of the same size."""
        left = []
        for block in self.down:
            x = block(x)
            left.append(x)
            x = functional.max_pool2d(x, 2)
        x = left.pop()
        for block in self.up:
            x = functional.interpolate(x, scale_factor=2.0)
            x = block(torch.cat((x, left.pop()), 1))
        return self.last(x)


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )
