"""The plain networks: of a photograph in shades of grey they estimate what is to be subtracted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def dncnn(depth: int, channels: int) -> nn.Module:
    """Convolution and ReLU; convolution, normalisation, ReLU; and a convolution at the end."""
    layers = [nn.Conv2d(1, channels, 3, padding=1), nn.ReLU()]
    for _ in range(depth - 2):
        convolution = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(channels), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(channels, 1, 3, padding=1))


class UNet(nn.Module):
    """A U-Net (Ronneberger et al., MICCAI 2015), for photographs of any size.

    Each level has two convolutions of 3 x 3 with ReLU, without batch normalisation. Means of 2 x 2
    pixels lead down, repeated pixels up, and a level's features are joined to those from below.

    Args:
        widths: the channels of each level, from the top.
    """

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        self.down = nn.ModuleList(map(_level, [1, *widths], widths))
        joined = [lower + upper for lower, upper in zip(widths[1:], widths, strict=False)]
        self.up = nn.ModuleList(map(_level, joined, widths))
        self.last = nn.Conv2d(widths[0], 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """The estimate `(n, 1, height, width)`."""
        height, width = x.shape[2:]
        multiple = 2 ** len(self.up)
        x = functional.pad(x, (0, -width % multiple, 0, -height % multiple), "replicate")
        features = []
        for i, level in enumerate(self.down):
            x = level(functional.avg_pool2d(x, 2) if i else x)
            features.append(x)
        for level, upper in zip(reversed(self.up), reversed(features[:-1]), strict=True):
            x = level(torch.cat([functional.interpolate(x, scale_factor=2.0), upper], 1))
        estimate: Tensor = self.last(x)
        return estimate[:, :, :height, :width]


def _level(inputs: int, outputs: int) -> nn.Module:
    first, second = (nn.Conv2d(one, outputs, 3, padding=1) for one in (inputs, outputs))
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU())


# By name, what makes each network, and its options.
NETWORKS: dict[str, tuple[Callable[..., nn.Module], dict[str, Any]]] = {
    "dncnn": (dncnn, {"depth": 9, "channels": 32}),
    "unet": (UNet, {"widths": [16, 32, 64]}),
}
