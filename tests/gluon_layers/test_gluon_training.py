"""Training Gluon layers with `Trainer`: several contexts, and multipliers for D'."""

import do_conv.gluon  # noqa: F401 - before mxnet, which reads names that this module restores

# isort: split
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon
from mxnet.gluon import nn

RATE, DECAY = 0.125, 2.0**-4
OPTIONS = {"learning_rate": RATE, "wd": DECAY}


def values(block):
    """Every parameter of a block, by its name in it."""
    mx.nd.waitall()
    return {
        name: parameter.data(parameter.list_ctx()[0]).asnumpy()
        for name, parameter in block._collect_params_with_prefix().items()
    }


def network(layer, x, contexts):
    """A layer before another, whose gradients every sample adds to."""
    net = nn.HybridSequential(prefix="net_")
    net.add(layer, nn.Activation("tanh"), nn.Conv2D(2, 1))
    net.cast(x.dtype)
    mx.random.seed(9)
    net.initialize(mx.init.Xavier(), ctx=contexts)
    net(x.as_in_context(contexts[0]))
    mx.nd.waitall()
    for parameter in net.collect_params(".*depthwise_delta").values():
        parameter.set_data(mx.nd.random.normal(0, 0.3, parameter.shape, dtype=x.dtype))
    return net


def train(net, x, contexts, steps=2, before=lambda: None):
    trainer = gluon.Trainer(net.collect_params(), "sgd", {**OPTIONS, "momentum": 0.5})
    before()
    for _ in range(steps):
        parts = gluon.utils.split_and_load(x, contexts)
        with autograd.record():
            losses = [net(part).square().sum() for part in parts]
        autograd.backward(losses)
        trainer.step(len(x))
    return values(net)


@pytest.mark.parametrize("hybridized", [False, True])
def test_two_contexts_give_what_one_gives(hybridized, kind, composition, batch):
    x, results = batch("float64"), []
    for contexts in ([mx.cpu(0)], [mx.cpu(0), mx.cpu(1)]):
        net = network(kind(composition=composition, in_channels=4), x, contexts)
        if hybridized:
            net.hybridize()
        start = values(net)
        results.append(train(net, x, contexts))
        for parameter in net.collect_params().values():
            copies = [array.asnumpy() for array in parameter.list_data()]
            assert len(copies) == len(contexts)
            assert all(np.array_equal(copy, copies[0]) for copy in copies)
    one, two = results
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert not np.array_equal(value, start[name]), name
        np.testing.assert_allclose(two[name], value, rtol=0, atol=1e-13 * np.abs(value).max())


@pytest.mark.parametrize("name", ["lr_mult", "wd_mult"])
@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0])
def test_the_step_of_the_depthwise_kernel_is_the_multiplied_one(name, factor, kind, batch):
    x = batch("float64")
    net = network(kind(in_channels=4), x, [mx.cpu()])
    net.collect_params(".*depthwise_(delta|weight)").setattr(name, factor)
    trainer = gluon.Trainer(net.collect_params(), "sgd", OPTIONS)
    before = values(net)
    with autograd.record():
        loss = net(x).square().sum()
    loss.backward()
    gradients = {n: p.grad().asnumpy() for n, p in net._collect_params_with_prefix().items()}
    trainer.step(1)
    after = values(net)
    for key, value in before.items():
        rate, decay = RATE, DECAY
        if "depthwise" in key:
            rate *= factor if name == "lr_mult" else 1
            decay *= factor if name == "wd_mult" else 1
        expected = value - rate * (gradients[key] + decay * value)
        np.testing.assert_allclose(after[key], expected, rtol=0, atol=1e-14 * np.abs(value).max())
        assert np.array_equal(after[key], value) == (rate == 0), key


def test_freezing_a_layer_by_grad_req(kind, batch):
    x = batch()
    net = network(kind(in_channels=4), x, [mx.cpu()])
    before = values(net)
    net[0].collect_params().setattr("grad_req", "null")
    after = train(net, x, [mx.cpu()])
    changed = {name for name in before if not np.array_equal(after[name], before[name])}
    assert changed == {"2.weight", "2.bias"}


@pytest.mark.parametrize("frozen", ["weight", "depthwise"])
def test_one_half_alone_may_be_trained(frozen, kind, composition, batch):
    x = batch()
    net = network(kind(in_channels=4, composition=composition), x, [mx.cpu()])
    names = [name for name in net[0]._reg_params if name.startswith(frozen)]
    for name in names:
        getattr(net[0], name).grad_req = "null"
    before, after = values(net), train(net, x, [mx.cpu()])
    changed = {name for name in before if not np.array_equal(after[name], before[name])}
    assert changed == before.keys() - {f"0.{name}" for name in names}


def test_gradients_are_added_where_they_are_asked_to_be(kind, composition, batch):
    x = batch()
    layer = kind(in_channels=4, composition=composition)
    layer.initialize(mx.init.Xavier())
    found = []
    for request, passes in (("write", 1), ("add", 2)):
        layer.collect_params().setattr("grad_req", request)
        layer.collect_params().zero_grad()
        for _ in range(passes):
            with autograd.record():
                loss = layer(x).square().sum()
            loss.backward()
        mx.nd.waitall()
        found.append([p.grad().asnumpy().copy() for p in layer.collect_params().values()])
    for once, twice in zip(*found, strict=True):
        assert once.any()
        np.testing.assert_allclose(twice, 2 * once, rtol=0, atol=2e-6 * np.abs(once).max())
