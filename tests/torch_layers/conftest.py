"""The layers that several files look at."""

import pytest

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
