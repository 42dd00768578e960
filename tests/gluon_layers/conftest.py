"""The layers that several files look at."""

import do_conv.gluon  # noqa: F401 - before mxnet, which reads names that this module restores

# isort: split
import mxnet as mx
import pytest

from do_conv.gluon import DepthwiseSeparableConv2D, DOConv2D, DOConv2DTranspose

KINDS = {
    "convolution": lambda **options: DOConv2D(6, 3, padding=1, groups=2, **options),
    "more-slots": lambda **options: DOConv2D(6, (2, 3), 2, d_mul=13, **options),
    "transposed": lambda **options: DOConv2DTranspose(6, 3, 2, 1, 1, groups=2, **options),
    "transposed-more-slots": lambda **options: DOConv2DTranspose(6, (2, 4), d_mul=17, **options),
    "transposed-pointwise": lambda **options: DOConv2DTranspose(6, 1, 2, groups=2, **options),
    "separable": lambda **options: DepthwiseSeparableConv2D(6, 3, 2, groups=2, d_mul=2, **options),
    "separable-pointwise": lambda **options: DepthwiseSeparableConv2D(6, 1, **options),
}


@pytest.fixture(autouse=True)
def _seed():
    mx.random.seed(3)


@pytest.fixture(params=KINDS)
def kind(request):
    """A function that makes a layer for inputs of four channels, given options of every layer."""
    return KINDS[request.param]


@pytest.fixture(params=["kernel", "feature"])
def composition(request):
    """Either composition."""
    return request.param


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    """Either precision that MXNet has on the CPU."""
    return request.param


@pytest.fixture
def batch():
    """A function that makes an input of four channels."""
    return lambda dtype="float32": mx.nd.random.normal(shape=(2, 4, 7, 7), dtype=dtype)


@pytest.fixture
def trained():
    """A function that gives a block of ours parameters as training leaves them."""
    return _trained


def _trained(block, x):
    block.cast(x.dtype)
    block.initialize(mx.init.Xavier())
    block(x)
    # MXNet convolves later, and a float32 convolution reorders its weight while it runs: reading
    # the weight at that moment fails.
    mx.nd.waitall()
    for name, parameter in block.collect_params().items():
        if not name.endswith(("weight", "gamma", "var")) or "depthwise" in name:
            drawn = mx.nd.random.normal(0, 0.3, parameter.shape, dtype=parameter.dtype)
            parameter.set_data(drawn)
    return block
