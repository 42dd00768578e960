"""The layers that several files look at."""

import pytest
import torch
from torch import nn

from do_conv.torch import DepthwiseSeparableConv2d, DOConv2d, DOConvTranspose2d

WINDOWS = [
    pytest.param((1, {"kernel_size": 3}), id="1d"),
    pytest.param(
        (1, {"kernel_size": 4, "groups": 2, "padding": 2, "padding_mode": "circular"}), id="1d-ring"
    ),
    pytest.param((2, {"kernel_size": 3, "padding": 1, "bias": False}), id="2d"),
    pytest.param((2, {"kernel_size": (2, 3), "stride": (2, 1), "dilation": (1, 2)}), id="2d-steps"),
    pytest.param((2, {"kernel_size": (3, 2), "groups": 2, "padding": "same"}), id="2d-same"),
    pytest.param((2, {"kernel_size": 3, "groups": 4, "padding": (2, 1)}), id="2d-depthwise"),
    pytest.param(
        (2, {"kernel_size": 3, "padding": (2, 1), "padding_mode": "reflect"}), id="2d-reflect"
    ),
    pytest.param(
        (2, {"kernel_size": 3, "padding": 1, "padding_mode": "replicate"}), id="2d-replicate"
    ),
    pytest.param((3, {"kernel_size": (1, 2, 3), "groups": 2, "padding": "valid"}), id="3d"),
    pytest.param(
        (3, {"kernel_size": 2, "padding": (2, 1, 1), "padding_mode": "circular"}), id="3d-ring"
    ),
]


@pytest.fixture(params=WINDOWS)
def windowed(request):
    """A rank, and the arguments that both the plain layer of this rank and ours take."""
    return request.param


KINDS = {
    "convolution": lambda **options: DOConv2d(4, 6, 3, padding=1, groups=2, **options),
    "more-slots": lambda **options: DOConv2d(4, 6, (2, 3), stride=2, d_mul=13, **options),
    "transposed": lambda **options: DOConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2, **options),
    "separable": lambda **options: DepthwiseSeparableConv2d(4, 6, 3, 2, d_mul=2, **options),
}


@pytest.fixture(params=KINDS)
def kind(request):
    """A function that makes a layer of four input channels, given options of every layer."""
    return KINDS[request.param]


@pytest.fixture(params=["kernel", "feature"])
def composition(request):
    """Either composition."""
    return request.param


@pytest.fixture
def layer(kind, composition):
    """A layer of every kind and composition, with parameters as training leaves them."""
    torch.manual_seed(5)
    made = kind(composition=composition)
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3)
    return made


@pytest.fixture
def x():
    """An input for `layer`."""
    torch.manual_seed(6)
    return torch.randn(2, 4, 7, 6)
