"""Folding whole Gluon networks: the plain network, and no trace of us."""

import do_conv.gluon  # noqa: F401 - before mxnet, which reads names that this module restores

# isort: split
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon
from mxnet.gluon import nn

from do_conv import DOConvError
from do_conv.gluon import (
    DepthwiseSeparableConv2D,
    DOConv2D,
    DOConv2DTranspose,
    convert,
    fold,
    folded_parameters,
)


@pytest.mark.parametrize("graph", [None, {}, {"static_alloc": True, "static_shape": True}])
@pytest.mark.parametrize("d_mul", [None, lambda spec: 2 * spec.area + 1])
def test_the_outputs_and_no_trace(network, x, trained, same, described, d_mul, graph):
    converted = trained(convert(network, d_mul=d_mul))
    if graph is not None:
        converted.hybridize(**graph)
    expected = converted(x)
    folded = fold(converted)
    assert folded._active == (graph is not None)
    assert same(folded(x), expected)
    assert abs(folded(x) - network(x)).max() > 1e-2
    assert described(folded) == described(network)
    assert same(converted(x), expected)
    assert type(converted.first) is DOConv2D


def test_trained_by_a_trainer(network, x):
    converted = convert(network)
    trainer = gluon.Trainer(converted.collect_params(), "sgd", {"learning_rate": 0.1})
    for _ in range(3):
        with autograd.record():
            loss = converted(x).square().mean()
        loss.backward()
        trainer.step(1)
    folded = fold(converted)
    np.testing.assert_array_equal(folded(x).asnumpy(), converted(x).asnumpy())
    saved = folded_parameters(converted)
    for name, parameter in folded._collect_params_with_prefix().items():
        np.testing.assert_array_equal(parameter.data().asnumpy(), saved[name].asnumpy())


def test_no_gradient_of_w_is_left_on_a_folded_weight(network, x):
    converted = convert(network)
    with autograd.record():
        loss = converted(x).square().mean()
    loss.backward()
    weight = converted.first.weight.grad().asnumpy()
    assert not fold(converted).first.weight.grad().asnumpy().any()
    assert np.array_equal(converted.first.weight.grad().asnumpy(), weight)
    assert weight.any()


def test_training_goes_on_and_stages_are_exact(network, x, trained, same):
    """Fold, convert again, train, fold: nothing moves between the stages."""
    one = trained(convert(network))
    two = convert(fold(one))
    assert same(two(x), one(x))
    assert same(fold(two)(x), one(x))


def test_how_parameters_are_trained_stays(network, trained):
    contexts = [mx.cpu(0), mx.cpu(1)]
    network.collect_params().reset_ctx(contexts)
    network.first.weight.grad_req, network.up.weight.lr_mult = "null", 0.5
    folded = fold(trained(convert(network.body, d_mul=12)))
    assert folded[0].weight.list_ctx() == contexts
    assert folded[0].weight.grad(mx.cpu(1)).shape == folded[0].weight.shape
    folded = fold(convert(network))
    assert folded.first.weight.grad_req == "null"
    assert folded.up.weight.lr_mult == 0.5


def test_a_converted_network_inside_a_larger_one(network, x, trained, same, described):
    larger = nn.Sequential()
    larger.add(trained(convert(network)), nn.Conv2D(1, 1))
    larger[1].initialize()
    expected = larger(x)
    folded = fold(larger)
    assert same(folded(x), expected)
    assert described(folded[0]) == described(network)


def test_layers_made_as_ours(x, described):
    shared = DepthwiseSeparableConv2D(4, 3, padding=1, prefix="separable_")
    inner, model = nn.HybridSequential(), nn.HybridSequential()
    inner.add(nn.Activation("relu"), shared)
    first = DOConv2D(4, 3, depthwise_init="he", prefix="first_")
    last = DOConv2DTranspose(4, 3, depthwise_init="he", prefix="last_")
    model.add(first, shared, inner, last, DOConv2D(2, 1, prefix="point_"))
    model.initialize(mx.init.Xavier())
    model.hybridize(static_alloc=True)
    for parameter in shared.collect_params().values():
        parameter.lr_mult = 0.5
    expected = model(x).asnumpy()
    folded = fold(model)
    tolerance = 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(folded(x).asnumpy(), expected, rtol=0, atol=tolerance)
    assert folded[1] is folded[2][1]
    assert [type(layer) for layer in folded[1]] == [nn.Conv2D, nn.Conv2D]
    assert folded[1]._active
    assert folded[1][1]._active
    assert folded[1]._flags == folded[1][1]._flags == folded[0]._flags
    assert folded[1][0].weight.lr_mult == folded[1][1].bias.lr_mult == 0.5
    assert not [name for name in folded.collect_params() if "delta" in name]
    plain = nn.Conv2D(4, 3, prefix="first_"), nn.Conv2DTranspose(4, 3, prefix="last_")
    for layer, new in zip((folded[0], folded[3]), plain, strict=True):
        new.initialize()
        new(mx.nd.ones((1, layer.weight.shape[type(new) is nn.Conv2D], 5, 5)))
        assert described(layer) == described(new)


def test_a_bare_layer(x):
    for layer in (DOConv2D(4, 3), DepthwiseSeparableConv2D(4, 3)):
        layer.initialize()
        expected = layer(x).asnumpy()
        np.testing.assert_allclose(fold(layer)(x).asnumpy(), expected, rtol=0, atol=1e-6)


def test_exception_nothing_of_ours(network):
    match = "must have a layer with a depthwise kernel; received a Net without one; convert it"
    for plain in (network, fold(convert(network))):
        with pytest.raises(DOConvError, match=match):
            fold(plain)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_exception_what_is_not_finite(network, value):
    converted = convert(network)
    converted.up.bias.set_data(mx.nd.full((2,), value))
    with pytest.raises(DOConvError, match="bias must be finite"):
        fold(converted)
    assert np.isfinite(fold(converted, check_finite=False).up.weight.data().asnumpy()).all()
    converted.up.bias.set_data(mx.nd.zeros((2,)))
    converted.first.depthwise_delta.set_data(mx.nd.full((3, 9, 3, 3), value))
    with pytest.raises(DOConvError, match="weight must be finite"):
        fold(converted)


def test_exception_a_network_that_has_seen_no_input(fresh):
    with pytest.raises(DOConvError, match="received layer 'net_conv0' without parameters"):
        fold(convert(fresh()))
