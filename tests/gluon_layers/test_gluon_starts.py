"""How the Gluon layers start: D' is drawn as the core says, whatever initializer a net is given."""

import math

import do_conv.gluon  # before mxnet, which reads names from NumPy that this module restores

# isort: split
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from mxnet.gluon import nn

from do_conv.gluon import DOConv1D, DOConv1DTranspose, DOConv2D, DOConv2DTranspose, DOConv3D

CLASSES = {
    1: (DOConv1D, nn.Conv1D),
    2: (DOConv2D, nn.Conv2D),
    3: (DOConv3D, nn.Conv3D),
    "t1": (DOConv1DTranspose, nn.Conv1DTranspose),
    "t2": (DOConv2DTranspose, nn.Conv2DTranspose),
}
SIZES = {1: (9,), 2: (9, 8), 3: (5, 6, 5), "t1": (9,), "t2": (5, 4)}

WINDOWS = [
    pytest.param(1, {"kernel_size": 3, "groups": 2}, id="1d"),
    pytest.param(2, {"kernel_size": 3, "padding": 1, "use_bias": False}, id="2d"),
    pytest.param(2, {"kernel_size": (2, 3), "strides": (2, 1), "dilation": (1, 2)}, id="2d-steps"),
    pytest.param(2, {"kernel_size": 3, "groups": 4, "activation": "relu"}, id="2d-depthwise"),
    pytest.param(2, {"kernel_size": 1, "d_mul": 7}, id="2d-pointwise"),
    pytest.param(3, {"kernel_size": (1, 2, 3), "groups": 2}, id="3d"),
    pytest.param("t1", {"kernel_size": 8, "strides": 2, "padding": 1}, id="t1d"),
    pytest.param("t2", {"kernel_size": 4, "strides": 2, "bias_initializer": "ones"}, id="t2d"),
    pytest.param("t2", {"kernel_size": (2, 3), "groups": 4, "activation": "relu"}, id="t2d-groups"),
    pytest.param("t2", {"kernel_size": 1, "strides": 2}, id="t2d-pointwise"),
]
INITIALIZERS = [
    mx.init.Uniform(),
    mx.init.Xavier(),
    mx.init.MSRAPrelu(),
    mx.init.Normal(2),
    mx.init.One(),
    mx.init.Constant(5),
]


def start(conv, x, initializer="uniform", dtype="float32", seed=3, **options):
    """A layer started from a seed, and its output."""
    layer = conv(8, **options)
    layer.cast(dtype)
    mx.random.seed(seed)
    layer.initialize(initializer)
    out = layer(x)
    # MXNet convolves later, and a float32 convolution reorders its weight while it runs: reading
    # the weight at that moment fails.
    mx.nd.waitall()
    return layer, out


def equal(first, second):
    return first.dtype == second.dtype and np.array_equal(first.asnumpy(), second.asnumpy())


@pytest.mark.parametrize("in_channels", [4, 0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("rank", "window"), WINDOWS)
def test_identity_start_is_the_plain_layer_to_the_last_bit(rank, window, dtype, in_channels):
    ours, plain = CLASSES[rank]
    x = mx.nd.random.normal(shape=(2, 4, *SIZES[rank]), dtype=dtype)
    options = {**window, "in_channels": in_channels}
    layer, found = start(ours, x, mx.init.Xavier(), dtype, **options)
    options.pop("d_mul", None)
    if str(rank).startswith("t"):
        options["in_channels"] = 4  # MXNet's own layer needs them where it has groups
    reference, expected = start(plain, x, mx.init.Xavier(), dtype, **options)
    assert equal(layer.weight.data(), reference.weight.data())
    assert equal(layer.composed_weight(), reference.weight.data())
    assert equal(found, expected)
    with autograd.record():
        assert equal(layer(x), expected)
    layer.hybridize()
    reference.hybridize()
    assert equal(layer(x), reference(x))


@pytest.mark.parametrize("d_mul", [None, 11, 18])
@pytest.mark.parametrize("in_channels", [4, 0])
@pytest.mark.parametrize("initializer", INITIALIZERS, ids=lambda init: type(init).__name__)
def test_no_initializer_touches_an_identity_start(initializer, in_channels, d_mul):
    net = nn.HybridSequential()
    net.add(DOConv2D(6, 3, d_mul=d_mul, in_channels=in_channels), nn.Dense(2))
    net.initialize(initializer)
    net(mx.nd.ones((1, 4, 5, 5)))
    assert not net[0].depthwise_delta.data().asnumpy().any()
    assert net[0].weight.data().asnumpy().any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("in_channels", [512, 0])
@pytest.mark.parametrize("d_mul", [None, 11, 18])
def test_he_start(d_mul, in_channels, dtype):
    x = mx.nd.ones((1, 512, 3, 3), dtype=dtype)
    options = {"kernel_size": 3, "d_mul": d_mul, "in_channels": in_channels}
    layer, _ = start(DOConv2D, x, mx.init.One(), dtype, depthwise_init="he", **options)
    assert layer.depthwise_delta.data().dtype == np.dtype(dtype)
    drawn = layer.depthwise_delta.data().asnumpy().astype(float) + do_conv.identity(layer.spec)
    std = math.sqrt(2 / 9)
    assert drawn.std() == pytest.approx(std, rel=0.02)
    assert drawn.mean() == pytest.approx(0, abs=5 * std / math.sqrt(drawn.size))
    # Each slot on its own: one that kept its identity would have mean 1.
    assert np.abs(drawn.mean(axis=0)).max() < 5 * std / math.sqrt(512)


def test_he_start_follows_the_seed():
    x = mx.nd.ones((1, 4, 5, 5))

    def delta(seed):
        layer, _ = start(DOConv2D, x, seed=seed, kernel_size=3, depthwise_init="he")
        return layer.depthwise_delta.data()

    assert equal(delta(1), delta(1))
    assert not equal(delta(1), delta(2))


def test_own_initializers():
    layer, _ = start(
        DOConv2D,
        mx.nd.ones((1, 4, 5, 5)),
        mx.init.Zero(),
        kernel_size=3,
        weight_initializer=mx.init.Constant(2),
        bias_initializer="ones",
    )
    assert (layer.weight.data() == 2).asnumpy().all()
    assert (layer.bias.data() == 1).asnumpy().all()


@pytest.mark.parametrize("name", ["identity", "he"])
def test_starting_again(name):
    layer, _ = start(DOConv2D, mx.nd.ones((1, 4, 5, 5)), kernel_size=3, depthwise_init=name)
    layer.depthwise_delta.set_data(mx.nd.full((4, 9, 3, 3), math.nan))
    layer.initialize(mx.init.Xavier(), force_reinit=True)
    delta = layer.depthwise_delta.data().asnumpy()
    assert np.isfinite(delta).all()
    assert delta.any() == (name == "he")


@pytest.mark.parametrize("d_mul", [None, 11])
def test_cast_after_the_start(d_mul):
    x = mx.nd.random.normal(shape=(1, 4, 5, 5))
    layer, expected = start(DOConv2D, x, kernel_size=3, d_mul=d_mul, depthwise_init="he")
    before = [p.data().astype("float64") for p in layer.collect_params().values()]
    layer.cast("float64")
    after = [p.data() for p in layer.collect_params().values()]
    assert all(equal(new, old) for new, old in zip(after, before, strict=True))
    found = layer(x.astype("float64"))
    assert found.dtype == layer.composed_weight().dtype == np.float64
    np.testing.assert_allclose(found.asnumpy(), expected.asnumpy(), rtol=0, atol=1e-6)


def test_double_precision_keeps_small_changes():
    layer = DOConv2D(1, 3, in_channels=1, use_bias=False)
    layer.cast("float64")
    layer.initialize(mx.init.One())
    layer.depthwise_delta.set_data(mx.nd.full((1, 9, 3, 3), 2.0**-40, dtype="float64"))
    # Every slot adds the same power of two to 1: the sum is exact in float64, lost in float32.
    assert (layer.composed_weight() - 1 == 9 * 2.0**-40).asnumpy().all()


@pytest.mark.parametrize("d_mul", [None, 1, 7, -3])
@pytest.mark.parametrize("composition", ["kernel", "feature"])
def test_a_kernel_of_one_position_is_the_plain_layer(d_mul, composition):
    x = mx.nd.random.normal(shape=(1, 4, 5, 5))
    window = {"kernel_size": 1, "strides": 2, "groups": 2}
    ours = {"d_mul": d_mul, "depthwise_init": "he", "composition": composition}
    layer, found = start(DOConv2D, x, **window, **ours)
    assert layer.depthwise_delta is None
    assert equal(found, start(nn.Conv2D, x, **window)[1])
    layer.hybridize()
    assert equal(layer(x), found)
