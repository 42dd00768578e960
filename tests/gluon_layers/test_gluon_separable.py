"""Depthwise separable convolutions in Gluon: two plain layers, trained as one."""

import inspect

import do_conv.gluon  # noqa: F401 - before mxnet, which reads names that this module restores

# isort: split
import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn

from do_conv import DOConvError
from do_conv.gluon import (
    DepthwiseSeparableConv1D,
    DepthwiseSeparableConv2D,
    DepthwiseSeparableConv3D,
    DOConv2D,
)

CLASSES = {
    1: (DepthwiseSeparableConv1D, nn.Conv1D, (9,)),
    2: (DepthwiseSeparableConv2D, nn.Conv2D, (9, 8)),
    3: (DepthwiseSeparableConv3D, nn.Conv3D, (5, 6, 5)),
}
WINDOWS = [
    pytest.param(1, {"kernel_size": 3, "d_mul": 2, "strides": 2}, id="1d"),
    pytest.param(2, {"kernel_size": 3, "padding": 1}, id="2d"),
    pytest.param(2, {"kernel_size": (2, 3), "dilation": 2, "activation": "tanh"}, id="2d-tanh"),
    pytest.param(2, {"kernel_size": 3, "groups": 2, "d_mul": 3, "use_bias": False}, id="2d-groups"),
    pytest.param(2, {"kernel_size": 2, "d_mul": 5}, id="2d-beyond-area"),
    pytest.param(2, {"kernel_size": 1, "d_mul": 2}, id="2d-pointwise"),
    pytest.param(3, {"kernel_size": 2, "d_mul": 2}, id="3d"),
]


def pair(conv, kernel_size, d_mul=1, use_bias=True, groups=1, activation=None, **window):
    """The two plain layers, for four input channels."""
    net = nn.HybridSequential()
    net.add(conv(4 * d_mul, kernel_size, groups=4, use_bias=False, in_channels=4, **window))
    net.add(conv(8, 1, use_bias=use_bias, groups=groups, activation=activation,
                 in_channels=4 * d_mul))  # fmt: skip
    return net


def close(found, expected, tolerance):
    found, expected = found.asnumpy(), expected.asnumpy()
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())
    return True


def equal(first, second):
    return np.array_equal(first.asnumpy(), second.asnumpy())


@pytest.mark.parametrize(("ours", "plain", "_"), CLASSES.values())
def test_signature_is_the_plain_one_and_keywords(ours, plain, _):
    *expected, block = inspect.signature(plain).parameters
    found = inspect.signature(ours).parameters
    added = ["d_mul", "depthwise_initializer", "composition"]
    assert list(found) == [*expected, *added, block]
    assert {found[name].kind for name in added} == {inspect.Parameter.KEYWORD_ONLY}
    assert (found["d_mul"].default, found["composition"].default) == (1, "kernel")
    assert isinstance(ours(4, 3), plain)


def test_parameters_and_repr():
    options = {"groups": 2, "activation": "relu", "in_channels": 4, "d_mul": 3}
    layer = DepthwiseSeparableConv2D(6, 3, 2, 1, **options, prefix="one_")
    assert {name: p.shape for name, p in layer.collect_params().items()} == {
        "one_depthwise_weight": (4, 3, 3, 3), "one_weight": (6, 2, 3), "one_bias": (6,),
    }  # fmt: skip
    window = "kernel_size=(3, 3), stride=(2, 2), padding=(1, 1), groups=2, Activation(relu)"
    assert repr(layer) == f"DepthwiseSeparableConv2D(2 -> 6, {window}, d_mul=3)"


@pytest.mark.parametrize(("rank", "window"), WINDOWS)
def test_folded_layer_is_the_pair(rank, window, dtype, composition, trained):
    ours, plain, size = CLASSES[rank]
    x = mx.nd.random.normal(shape=(2, 4, *size), dtype=dtype)
    layer = trained(ours(8, **window, composition=composition, prefix="stem_"), x)
    layer.depthwise_weight.grad_req = "null"
    folded, expected = layer.fold(), pair(plain, **window)
    assert [type(child) for child in folded] == [plain, plain]
    assert [repr(child) for child in folded] == [repr(child) for child in expected]
    assert {n.rsplit("_", 1)[0] for n in folded.collect_params()} == {
        "stem_depthwise", "stem_pointwise",
    }  # fmt: skip
    assert (folded[0].weight.grad_req, folded[1].weight.grad_req) == ("null", "write")
    assert close(folded(x), layer(x), {"float32": 2e-6, "float64": 1e-14}[dtype])


@pytest.mark.parametrize(("rank", "window"), WINDOWS)
def test_from_pair(rank, window, composition, dtype):
    ours, plain, size = CLASSES[rank]
    x = mx.nd.random.normal(shape=(2, 4, *size), dtype=dtype)
    net = pair(plain, **window)
    net.cast(dtype)
    net.initialize(mx.init.Xavier(), ctx=[mx.cpu(0), mx.cpu(1)])
    net[1].weight.grad_req = "null"
    # A float32 convolution leaves its weight in a layout of its own.
    expected = net(x).asnumpy()
    layer = ours.from_pair(*net, composition=composition)
    assert (layer.composition, layer.weight.grad_req) == (composition, "null")
    assert layer.weight.list_ctx() == [mx.cpu(0), mx.cpu(1)]
    assert close(layer(x), net(x), {"float32": 2e-6, "float64": 1e-14}[dtype])
    assert all(equal(a.data(mx.cpu(0)), b.data(mx.cpu(0))) for a, b in zip(
        layer.fold().collect_params().values(), net.collect_params().values(), strict=True
    ))  # fmt: skip
    layer.weight.data()[:] += 1
    assert np.array_equal(net(x).asnumpy(), expected)


@pytest.mark.parametrize("in_channels", [4, 0])
@pytest.mark.parametrize("initializer", [mx.init.Xavier(), mx.init.MSRAPrelu(), mx.init.One()])
@pytest.mark.parametrize(("rank", "window"), WINDOWS)
def test_it_starts_as_the_pair_does(rank, window, initializer, in_channels):
    ours, plain, size = CLASSES[rank]
    layer, net = ours(8, **window, in_channels=in_channels), pair(plain, **window)
    x = mx.nd.ones((1, 4, *size))
    for block in (layer, net):
        mx.random.seed(7)
        block.initialize(initializer)
        block(x)
    mx.nd.waitall()
    assert all(equal(a.data(), b.data()) for a, b in zip(
        layer.fold().collect_params().values(), net.collect_params().values(), strict=True
    ))  # fmt: skip


def test_own_initializers():
    layer = DepthwiseSeparableConv2D(
        6, 3, weight_initializer="ones", bias_initializer="ones", in_channels=4,
        depthwise_initializer=mx.init.Constant(2),
    )  # fmt: skip
    layer.initialize(mx.init.Zero())
    values = layer.depthwise_weight, layer.weight, layer.bias
    assert [set(p.data().asnumpy().ravel()) for p in values] == [{2}, {1}, {1}]


def layers(**changed):
    """A depthwise and a pointwise layer, with options of the one or the other."""
    first = {"channels": 4, "kernel_size": 3, "groups": 4, "use_bias": False, "in_channels": 4}
    second = {"channels": 6, "kernel_size": 1, "in_channels": 4}
    for name, options in changed.items():
        (first if name == "depthwise" else second).update(options)
    pair = nn.Conv2D(**first), nn.Conv2D(**second)
    for layer in pair:
        layer.initialize()
    return pair


NO_PAIR = [
    {"depthwise": {"groups": 2}},
    {"depthwise": {"use_bias": True}},
    {"depthwise": {"activation": "relu"}},
    {"depthwise": {"channels": 8}},
    {"pointwise": {"kernel_size": (1, 3)}},
    {"pointwise": {"strides": 2}},
    {"pointwise": {"padding": 1}},
]


@pytest.mark.parametrize("changed", NO_PAIR, ids=str)
def test_what_is_no_pair_is_refused(changed):
    with pytest.raises(DOConvError, match="a separable pair must be a depthwise convolution"):
        DepthwiseSeparableConv2D.from_pair(*layers(**changed))


def test_a_pair_of_another_kind_is_refused():
    depthwise, pointwise = layers()
    ours = DOConv2D(4, 3, groups=4, use_bias=False, in_channels=4)
    ours.initialize()
    for pair in (
        (ours, pointwise),
        (depthwise, nn.Dense(6)),
        (nn.Conv2DTranspose(4, 3), pointwise),
    ):
        with pytest.raises(DOConvError, match="a separable pair must be"):
            DepthwiseSeparableConv2D.from_pair(*pair)
    with pytest.raises(DOConvError, match="a separable pair must be"):
        DepthwiseSeparableConv1D.from_pair(depthwise, pointwise)


def test_a_pair_without_parameters_is_refused():
    depthwise, pointwise = nn.Conv2D(4, 3, groups=4, use_bias=False, in_channels=4), nn.Conv2D(6, 1)
    with pytest.raises(DOConvError, match="without parameters"):
        DepthwiseSeparableConv2D.from_pair(depthwise, pointwise)
