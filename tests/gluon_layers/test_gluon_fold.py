"""Folding a Gluon layer: the plain layer that does the same, with the same names."""

import math

import do_conv.gluon  # noqa: F401 - before mxnet, which reads names that this module restores

# isort: split
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from mxnet.gluon import nn

from do_conv import DOConvError
from do_conv.gluon import (
    DepthwiseSeparableConv2D,
    DOConv1D,
    DOConv1DTranspose,
    DOConv2D,
    DOConv2DTranspose,
    DOConv3D,
    fold,
    folded_parameters,
)

CLASSES = {
    1: (DOConv1D, nn.Conv1D),
    2: (DOConv2D, nn.Conv2D),
    3: (DOConv3D, nn.Conv3D),
    "t1": (DOConv1DTranspose, nn.Conv1DTranspose),
    "t2": (DOConv2DTranspose, nn.Conv2DTranspose),
}
SIZES = {1: (9,), 2: (9, 8), 3: (5, 6, 5), "t1": (9,), "t2": (5, 4)}
EXACT = {"float32": 1e-6, "float64": 1e-14}

WINDOWS = [
    pytest.param(1, {"kernel_size": 3, "padding": 1}, id="1d"),
    pytest.param(2, {"kernel_size": 3, "padding": (2, 1), "activation": "relu"}, id="2d"),
    pytest.param(2, {"kernel_size": (2, 3), "strides": (2, 1), "dilation": (1, 2)}, id="2d-steps"),
    pytest.param(2, {"kernel_size": 3, "groups": 4, "use_bias": False}, id="2d-depthwise"),
    pytest.param(2, {"kernel_size": 3, "groups": 2, "d_mul": 11}, id="2d-more"),
    pytest.param(2, {"kernel_size": (3, 2), "d_mul": 12, "activation": "tanh"}, id="2d-twice"),
    pytest.param(2, {"kernel_size": 1, "strides": 2, "d_mul": 7}, id="2d-pointwise"),
    pytest.param(3, {"kernel_size": (1, 2, 3), "groups": 2, "d_mul": 7}, id="3d-more"),
    pytest.param("t1", {"kernel_size": 4, "strides": 2, "activation": "relu"}, id="t1d"),
    pytest.param("t2", {"kernel_size": 3, "strides": 2, "output_padding": 1}, id="t2d"),
    pytest.param("t2", {"kernel_size": 2, "groups": 4, "use_bias": False, "d_mul": 6}, id="t2d-d"),
]


@pytest.fixture(autouse=True)
def _seed():
    mx.random.seed(3)


def make(rank, dtype="float32", **options):
    """A layer with nothing at zero that has seen its input, and that input."""
    layer = CLASSES[rank][0](8, **options)
    layer.cast(dtype)
    layer.initialize(mx.init.Normal(0.3))
    x = mx.nd.random.normal(shape=(2, 4, *SIZES[rank]), dtype=dtype)
    layer(x)
    # MXNet convolves later, and a float32 convolution reorders its weight while it runs: reading
    # the weight at that moment fails.
    mx.nd.waitall()
    for parameter in (layer.depthwise_delta, layer.bias):
        if parameter is not None:
            parameter.set_data(mx.nd.random.normal(0, 0.3, parameter.shape, dtype=dtype))
    return layer, x


def assert_close(found, expected, tolerance):
    """Within `tolerance` of the largest number."""
    found, expected = found.asnumpy(), expected.asnumpy()
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("hybridized", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("composition", ["kernel", "feature"])
@pytest.mark.parametrize(("rank", "window"), WINDOWS)
def test_folded_layer_gives_the_same_output(rank, window, composition, dtype, hybridized):
    layer, x = make(rank, dtype, composition=composition, **window)
    folded = layer.fold()
    if hybridized:
        layer.hybridize()
        folded.hybridize()
    # Feature composition sums in another order.
    rounding = 5 if composition == "feature" else 1
    assert_close(folded(x), layer(x), rounding * EXACT[dtype])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("rank", "window"), WINDOWS)
def test_folded_layer_is_the_plain_one(rank, window, dtype, tmp_path):
    layer, x = make(rank, dtype, **window)
    plain = CLASSES[rank][1]
    options = {name: value for name, value in window.items() if name != "d_mul"}
    expected, folded = plain(8, **options, in_channels=4, prefix=layer.prefix), layer.fold()
    assert type(folded) is plain
    assert repr(folded) == repr(expected)
    assert {name: p.shape for name, p in folded.collect_params().items()} == {
        name: p.shape for name, p in expected.collect_params().items()
    }
    assert {np.dtype(p.dtype).name for p in folded.collect_params().values()} == {dtype}
    path = str(tmp_path / "folded.params")
    folded.save_parameters(path)
    expected.cast(dtype)
    expected.load_parameters(path)
    assert np.array_equal(expected(x).asnumpy(), folded(x).asnumpy())


def test_folding_keeps_the_names():
    layer = DOConv2D(8, 3, in_channels=4, prefix="stem_")
    layer.initialize()
    folded = layer.fold()
    assert folded.prefix == "stem_"
    assert folded.name == layer.name
    assert sorted(folded.collect_params()) == ["stem_bias", "stem_weight"]


@pytest.mark.parametrize("kernel_size", [3, 1])
@pytest.mark.parametrize("bias", ["null", "write", "add"])
@pytest.mark.parametrize("weight", ["null", "write", "add"])
def test_folding_keeps_what_is_trained(weight, bias, kernel_size):
    layer, _ = make(2, kernel_size=kernel_size)
    layer.weight.grad_req, layer.bias.grad_req = weight, bias
    folded = layer.fold()
    assert (folded.weight.grad_req, folded.bias.grad_req) == (weight, bias)


@pytest.mark.parametrize("factor", ["lr_mult", "wd_mult"])
def test_folding_keeps_how_fast_each_is_trained(factor):
    layer, _ = make(2, kernel_size=3)
    setattr(layer.weight, factor, 0.5)
    setattr(layer.bias, factor, 0.25)
    folded = layer.fold()
    assert (getattr(folded.weight, factor), getattr(folded.bias, factor)) == (0.5, 0.25)


def test_folded_layer_can_be_trained_on():
    layer, x = make(2, kernel_size=3)
    folded = layer.fold()
    with autograd.record():
        loss = folded(x).square().sum()
    loss.backward()
    assert folded.weight.grad().asnumpy().any()
    assert not layer.weight.grad().asnumpy().any()


@pytest.mark.parametrize(
    "window", [{"kernel_size": 3}, {"kernel_size": 3, "d_mul": 11}, {"kernel_size": 1}]
)
def test_folded_layer_owns_its_memory(window):
    layer, x = make(2, **window)
    folded = layer.fold()
    expected, kept = folded(x).asnumpy(), layer(x).asnumpy()
    for parameter in layer.collect_params().values():
        parameter.data()[:] += 1
    assert np.array_equal(folded(x).asnumpy(), expected)
    assert not np.array_equal(layer(x).asnumpy(), kept)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("window", "name", "named"),
    [
        ({"kernel_size": 3}, "weight", "weight"),
        ({"kernel_size": 3}, "depthwise_delta", "weight"),
        ({"kernel_size": 3, "d_mul": 11}, "depthwise_delta", "weight"),
        ({"kernel_size": 3}, "bias", "bias"),
        ({"kernel_size": 1}, "weight", "weight"),
    ],
)
def test_folding_refuses_what_is_not_finite(window, name, named, value):
    layer, _ = make(2, **window)
    getattr(layer, name).data()[-1] = value
    pattern = f"{named} must be finite to be folded; .*NaN or infinite.*; .*check_finite=False"
    with pytest.raises(DOConvError, match=pattern):
        layer.fold()
    folded = layer.fold(check_finite=False)
    assert not np.isfinite(getattr(folded, named).data().asnumpy()).all()


def test_folding_waits_for_what_runs(kind, batch, monkeypatch):
    """A convolution that runs may hold the weight in another layout."""
    layer, waited = kind(in_channels=4), []
    layer.initialize()
    layer(batch())
    read = type(layer).composed_weight
    monkeypatch.setattr(mx.nd, "waitall", lambda: waited.append("all"))
    monkeypatch.setattr(type(layer), "composed_weight", lambda *a: waited.append("W") or read(*a))
    layer.fold()
    assert waited[0] == "all"


def test_several_contexts():
    contexts = [mx.cpu(0), mx.cpu(1)]
    layer = DOConv2D(8, 3, in_channels=4, depthwise_init="he")
    layer.initialize(ctx=contexts)
    x = mx.nd.random.normal(shape=(2, 4, 6, 6))
    folded = layer.fold()
    assert folded.weight.list_ctx() == contexts
    for context in contexts:
        out = layer(x.as_in_context(context))
        assert out.context == layer.composed_weight(context).context == context
        assert np.array_equal(out.asnumpy(), layer(x).asnumpy())
        assert_close(folded(x.as_in_context(context)), out, 1e-6)


@pytest.mark.parametrize("in_channels", [4, 0])
@pytest.mark.parametrize("kernel_size", [3, 1])
def test_folding_needs_parameters(kernel_size, in_channels):
    layer = DOConv2D(8, kernel_size, in_channels=in_channels, prefix="stem_")
    if not in_channels:
        layer.initialize()
    pattern = "after its parameters were made; received layer 'stem' without.*; call it on an input"
    with pytest.raises(DOConvError, match=pattern):
        layer.fold()


class Tripled(DOConv2D):
    def hybrid_forward(self, F, x, **parameters):  # noqa: N803
        return 3 * super().hybrid_forward(F, x, **parameters)


class Padded(DepthwiseSeparableConv2D):
    def forward(self, x):
        return super().forward(mx.nd.pad(x, "reflect", pad_width=(0, 0, 0, 0, 1, 1, 1, 1)))


FOLDS = {
    "layer": lambda layer, net: layer.fold(),
    "network": lambda layer, net: fold(net),
    "parameters": lambda layer, net: folded_parameters(net),
}


@pytest.mark.parametrize("folding", FOLDS)
@pytest.mark.parametrize(("kind", "method"), [(Tripled, "hybrid_forward"), (Padded, "forward")])
def test_folding_refuses_another_forward_pass(kind, method, folding):
    layer, net = kind(8, 3, in_channels=4), nn.HybridSequential()
    net.add(layer)
    net.initialize()
    pattern = rf"a {kind.__name__}, whose {method}\(\) is that of .*derive it from Conv2D and"
    with pytest.raises(DOConvError, match=pattern):
        FOLDS[folding](layer, net)


@pytest.mark.parametrize("kind", [DOConv2D, DepthwiseSeparableConv2D])
def test_folding_keeps_an_activation_that_is_a_block(kind):
    layer, net = kind(8, 3, in_channels=4), nn.HybridSequential()
    layer.act = nn.PReLU()
    net.add(layer)
    net.initialize()
    layer.act.alpha.set_data(mx.nd.array([0.5]))
    x = mx.nd.random.normal(shape=(2, 4, 9, 8))
    expected, folded = layer(x), layer.fold()
    assert_close(folded(x), expected, EXACT["float32"])
    layer.act.alpha.set_data(mx.nd.array([0.25]))  # the folded layer has a copy
    assert_close(folded(x), expected, EXACT["float32"])
    layer.act.alpha.set_data(mx.nd.array([0.5]))
    names = fold(net)._collect_params_with_prefix()
    parameters = folded_parameters(net)
    assert parameters.keys() == names.keys()
    (alpha,) = (array for name, array in parameters.items() if name.endswith("alpha"))
    assert alpha.asscalar() == 0.5
