"""Networks that several files convert."""

import cpu_torchvision  # noqa: F401  # before timm and torchvision
import pytest
import torch
from torch import nn


class Block(nn.Module):
    """Convolutions of several kinds, one of them used twice, and a tied pair."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.twice = nn.Conv2d(6, 6, (1, 3), padding=(0, 1))
        self.again = self.twice
        self.tied = nn.Conv2d(6, 6, (1, 3), padding=(0, 1), bias=False)
        self.tied.weight = self.twice.weight
        self.pointwise = nn.Conv2d(6, 4, 1)
        self.up = nn.ConvTranspose2d(4, 2, 4, stride=2, padding=1)

    def forward(self, x):
        x = self.norm(self.first(x)).relu()
        x = self.again(self.twice(self.depthwise(x)).relu())
        return self.up(self.pointwise(self.tied(x).relu()))


@pytest.fixture
def network():
    torch.manual_seed(0)
    made = nn.Sequential(Block(), nn.ReLU())
    made(torch.randn(4, 3, 8, 8))  # moves the running averages
    return made.eval()


@pytest.fixture
def x():
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def trained(model):
    """The model with D' as training leaves them."""
    for name, parameter in model.named_parameters():
        if name.endswith("depthwise_delta"):
            nn.init.normal_(parameter, std=0.2)
    return model


@pytest.fixture(name="trained")
def trained_fixture():
    return trained
