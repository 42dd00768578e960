"""Folding Gluon networks whose layers share parameters."""

import do_conv.gluon  # noqa: F401 - before mxnet, which reads names that this module restores

# isort: split
import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn

from do_conv.gluon import DepthwiseSeparableConv2D, DOConv2D, fold

GRAPH = pytest.mark.parametrize("graph", [False, True])


def assert_near(found, expected):
    found, expected = found.asnumpy(), expected.asnumpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def network(*layers, trained, x):
    """The layers one after the other, as training leaves them."""
    model = nn.HybridSequential()
    model.add(*layers)
    model.initialize(mx.init.Xavier())
    model(x)
    return trained(model)


def separable_pair(**options):
    """Two separable layers that share all parameters."""
    one = DepthwiseSeparableConv2D(6, 3, padding=1, in_channels=6, **options)
    return one, DepthwiseSeparableConv2D(6, 3, padding=1, params=one.params, **options)


@GRAPH
@pytest.mark.parametrize("use_bias", [True, False])
def test_separable_layers_stay_tied(trained, same, graph, use_bias):
    x = mx.nd.random.normal(shape=(2, 6, 8, 8))
    model = network(*separable_pair(use_bias=use_bias), trained=trained, x=x)
    model.hybridize(graph)
    folded = fold(model)
    assert_near(folded(x), model(x))
    for one, other in zip(*folded, strict=True):
        assert one is not other
        assert one.weight is other.weight
        assert one.bias is other.bias
        assert list(one.params) == list(other.params)
    assert len(folded.collect_params().keys()) == 2 + use_bias
    # A step of one is a step of both.
    weight = folded[0][1].weight
    weight.set_data(2 * weight.data())
    assert same(folded[1][1](x), folded[0][1](x))
    assert folded[0][1].weight is not model[0].weight


def test_separable_layers_that_share_a_part(trained, x):
    """Of another stride, and only one of them with a bias."""
    first = DepthwiseSeparableConv2D(3, 3, padding=1, in_channels=3, use_bias=False)
    last = DepthwiseSeparableConv2D(3, 3, 2, in_channels=3, params=first.params)
    alone = DepthwiseSeparableConv2D(3, 3, in_channels=3, activation="relu")
    model = network(first, last, alone, trained=trained, x=x)
    last.bias.set_data(mx.nd.array([1, 2, 3]))
    folded = fold(model)
    assert_near(folded(x), model(x))
    assert folded[0][0].weight is folded[1][0].weight
    assert folded[0][1].weight is folded[1][1].weight
    assert len(folded.collect_params().keys()) == 3 + 3


def shared():
    """A plain layer, two of ours with its parameters and one D' between them, and one alone."""
    options = {"padding": 1, "in_channels": 3}
    plain = nn.Conv2D(3, 3, **options)
    ours = DOConv2D(3, 3, params=plain.params, **options)
    return plain, ours, DOConv2D(3, 3, params=ours.params, **options), DOConv2D(3, 3, **options)


@GRAPH
def test_a_plain_layer_that_shares_a_weight_stays(trained, same, x, graph, tmp_path):
    model = network(*shared(), trained=trained, x=x)
    model[0].weight.lr_mult = 0.5
    model.hybridize(graph)
    between, expected = model[0](x), model(x)
    folded = fold(model)
    assert same(folded[0](x), between)
    assert same(folded(x), expected)
    assert not same(folded[1](x), folded[0](x))
    plain, one, other, alone = folded
    assert one.weight is other.weight
    assert one.weight is not plain.weight
    assert one.bias is plain.bias
    assert one.weight.lr_mult == 0.5
    assert alone.weight.lr_mult == 1
    # A weight of the plain layer, one of the two, and those of the layer alone.
    assert len(folded.collect_params().keys()) == 2 + 1 + 2
    assert list(one.params) == [one.weight.name, plain.bias.name]
    assert [type(layer) for layer in folded] == [nn.Conv2D] * 4

    # Each is trained on its own, and a file holds both.
    with mx.autograd.record():
        loss = folded(x).square().sum()
    loss.backward()
    gradients = [layer.weight.grad() for layer in (plain, one)]
    assert not same(*gradients)
    assert all(gradient.asnumpy().any() for gradient in gradients)
    expected = folded(x)
    folded.save_parameters(str(tmp_path / "folded.params"))
    again = fold(model)
    again.initialize(mx.init.Zero(), force_reinit=True)
    again.load_parameters(str(tmp_path / "folded.params"))
    assert same(again(x), expected)
    assert same(model[0](x), between)
