"""The FCN and the ResNet of Wang et al. (2017), for time series.

"Time series classification from scratch with deep neural networks: a strong baseline", IJCNN 2017.
Both have kernels of lengths 8, 5 and 3 with batch normalisation, no stride, and a mean over time
before the classifier.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

KERNELS = (8, 5, 3)
FCN_WIDTHS = (128, 256, 128)
RESNET_WIDTHS = (64, 128, 128)  # of the blocks, which have a convolution of each kernel


def network(name: str, channels: int, classes: int) -> nn.Module:
    """A network for series of so many channels; `name` is one of NETWORKS."""
    features = NETWORKS[name](channels)
    return nn.Sequential(*features, Mean(), nn.Linear(128, classes))


class Mean(nn.Module):
    """The mean over time: `(n, channels, length)` to `(n, channels)`."""

    def forward(self, x: Tensor) -> Tensor:
        """The mean."""
        return x.mean(2)


def _normalised(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    # The normalisation takes the place of a bias.
    convolution = nn.Conv1d(inputs, outputs, kernel, padding="same", bias=False)
    return nn.Sequential(convolution, nn.BatchNorm1d(outputs))


def _fcn(channels: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for width, kernel in zip(FCN_WIDTHS, KERNELS, strict=True):
        layers += [_normalised(channels, width, kernel), nn.ReLU()]
        channels = width
    return layers


def _resnet(channels: int) -> list[nn.Module]:
    inputs = (channels, *RESNET_WIDTHS)
    return [Block(before, width) for before, width in zip(inputs, RESNET_WIDTHS, strict=False)]


class Block(nn.Module):
    """Three convolutions, and a shortcut that is normalised, too."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        first, second, third = KERNELS
        self.residual = nn.Sequential(
            _normalised(inputs, width, first), nn.ReLU(),
            _normalised(width, width, second), nn.ReLU(),
            _normalised(width, width, third),
        )  # fmt: skip
        same = inputs == width
        self.shortcut = nn.BatchNorm1d(width) if same else _normalised(inputs, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The sum of both, after a ReLU."""
        return torch.relu(self.residual(x) + self.shortcut(x))


NETWORKS = {"fcn": _fcn, "resnet": _resnet}
