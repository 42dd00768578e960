"""A plain Gluon network with `DOConvTrainer`, and the same network with our layers."""

from __future__ import annotations

import copy

import do_conv.gluon  # noqa: F401 - before mxnet, which reads names that this module restores

# isort: split
import mxnet as mx
import numpy as np
from mxnet import autograd, gluon
from mxnet.gluon import nn

from do_conv.gluon import DOConvTrainer, convert, fold

STEPS = 20
CPU = (mx.cpu(),)
SHAPE = (3, 8, 8)
SGD = {"learning_rate": 0.05, "momentum": 0.9, "wd": 0.01}


def twins(net, optimizer="sgd", options=SGD, **choices):
    """A plain network, its trainer, and the same two with layers.

    The layers start from the W and D' of the plain network's trainer, some of which are drawn.
    """
    layers = convert(net, **choices)
    trainer = DOConvTrainer(net, optimizer, copy.deepcopy(options), **choices)
    give(layers, trainer)
    expected = gluon.Trainer(
        layers.collect_params(), optimizer, copy.deepcopy(options), update_on_kvstore=False
    )
    return net, trainer, layers, expected


def give(layers, trainer):
    """Give layers the W and D' of a trainer."""
    for name, kernel in trainer.kernels.items():
        layer = child(layers, name)
        layer.weight.set_data(kernel.weight.list_data()[0])
        layer.depthwise_delta.set_data(kernel.delta.list_data()[0])


def child(net, name):
    """The layer of a name."""
    for key in filter(None, name.split(".")):
        net = net._children[key]
    return net


def batches(net, shape=SHAPE, steps=STEPS, seed=1):
    """Inputs of four samples for a number of steps, in the dtype of a network."""
    generator = np.random.default_rng(seed)
    dtype = next(iter(net.collect_params().values())).dtype
    for _ in range(steps):
        yield mx.nd.array(generator.normal(size=(4, *shape)), dtype=dtype)


def backward(net, x, contexts=CPU):
    """The gradients of a batch; the loss asks the outputs for other values."""
    losses = []
    with autograd.record():
        for part in gluon.utils.split_and_load(x, list(contexts)):
            out = net(part).reshape((len(part), -1))
            wish = mx.nd.arange(out.shape[1], ctx=out.ctx, dtype=out.dtype) / out.shape[1] - 0.5
            losses.append((mx.nd.broadcast_sub(out, wish)).square().mean(axis=1).sum())
    autograd.backward(losses)


def train(net, trainer, shape=SHAPE, steps=STEPS, seed=1, before_step=lambda: None):
    """Train a network in steps of two micro-batches."""
    parameters = [p for p in net.collect_params().values() if p.grad_req != "null"]
    for parameter in parameters:
        parameter.grad_req = "add"
    for x in batches(net, shape, steps, seed):
        for parameter in parameters:
            parameter.zero_grad()
        for part in (x[:2], x[2:]):
            backward(net, part)
        before_step()
        trainer.step(len(x))


def difference(net, trainer, layers):
    """The largest difference of the plain network, of W and of D' from those of the layers."""
    mx.nd.waitall()
    names = net._collect_params_with_prefix()
    expected = fold(layers)._collect_params_with_prefix()
    assert names.keys() == expected.keys()
    found = [(parameter, expected[name]) for name, parameter in names.items()]
    for name, kernel in trainer.kernels.items():
        layer = child(layers, name)
        found += [(kernel.weight, layer.weight), (kernel.delta, layer.depthwise_delta)]
    return max(np.abs(first(one) - first(other)).max() for one, other in found)


def first(parameter):
    """The values of a parameter in its first context."""
    return parameter.list_data()[0].copy().asnumpy()


def values(net):
    """A copy of everything that a network holds, by its names in files."""
    return {name: first(p) for name, p in net._collect_params_with_prefix().items()}


def same_bits(one, other):
    """Whether two dictionaries of arrays are equal to the last bit."""
    return one.keys() == other.keys() and all(np.array_equal(v, other[k]) for k, v in one.items())


def network(dtype="float64", contexts=CPU):
    """Several kinds of convolutions, for `(3, 8, 8)`."""
    net = nn.HybridSequential(prefix="net_")
    with net.name_scope():
        net.add(
            nn.Conv2D(8, 3, padding=1, use_bias=False), nn.BatchNorm(), nn.Activation("tanh"),
            nn.Conv2D(8, (1, 3), groups=2), nn.Activation("tanh"),
            nn.Conv2D(8, 3, groups=8), nn.Activation("tanh"),
            nn.Conv2DTranspose(4, 2, 2, groups=2, in_channels=8), nn.Activation("tanh"),
            nn.Flatten(), nn.Dense(3),
        )  # fmt: skip
    return started(net, dtype, SHAPE, contexts)


def started(net, dtype, shape, contexts=CPU):
    """A network with values, always the same."""
    net.cast(dtype)
    mx.random.seed(0)
    np.random.seed(0)
    net.initialize(mx.init.Xavier(), ctx=list(contexts))
    net(mx.nd.zeros((1, *shape), dtype=dtype, ctx=contexts[0]))
    mx.nd.waitall()
    return net
