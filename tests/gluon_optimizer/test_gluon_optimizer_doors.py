"""Training that begins in the trainer and goes on in layers, and the other way."""

import pytest
from gluon_twins import (
    SGD,
    SHAPE,
    difference,
    network,
    same_bits,
    started,
    train,
    twins,
    values,
)

# isort: split
import mxnet as mx
import numpy as np
from mxnet import gluon
from mxnet.gluon import nn

from do_conv import DOConvError
from do_conv.gluon import DepthwiseSeparableConv2D, DOConvTrainer, convert

HALF = 5
ADAM = {"learning_rate": 0.01, "wd": 0.01, "epsilon": 1e-4}
OPTIMIZERS = {"sgd": (SGD, 1e-12), "nag": (SGD, 1e-12), "adam": (ADAM, 1e-10)}
CHOICES = {"he": {"depthwise_init": "he"}, "large d_mul": {"d_mul": 11}, "some": {"where": "[05]"}}
CASES = [*((name, {}) for name in OPTIMIZERS), *(("adam", one) for one in CHOICES.values())]


def both_halves(net, trainer):
    """Train in two halves, as a reference for a change in the middle."""
    train(net, trainer, steps=HALF)
    train(net, trainer, steps=HALF, seed=2)


def assert_same(one, other, tolerance):
    """Assert that two networks have the same arrays, and that each D' has moved."""
    one, other = values(one), values(other)
    assert one.keys() == other.keys()
    assert max(np.abs(array - other[name]).max() for name, array in one.items()) <= tolerance
    deltas = [array for name, array in one.items() if name.endswith("depthwise_delta")]
    assert min(np.abs(delta).max() for delta in deltas) > 1e-4


@pytest.mark.parametrize(("name", "choices"), CASES)
def test_training_goes_on_in_layers(name, choices):
    options, tolerance = OPTIMIZERS[name]
    net, trainer, layers, expected = twins(network(), name, options, **choices)
    train(net, trainer, steps=HALF)
    before = values(net)
    converted, its = trainer.to_layers()
    train(converted, its, steps=HALF, seed=2)
    both_halves(layers, expected)
    assert type(its) is gluon.Trainer
    assert same_bits(values(net), before)
    assert_same(converted, layers, tolerance)
    train(net, trainer, steps=HALF, seed=2)
    assert difference(net, trainer, layers) <= tolerance


@pytest.mark.parametrize(("name", "choices"), CASES)
def test_training_goes_on_in_the_trainer(name, choices):
    options, tolerance = OPTIMIZERS[name]
    *_, layers, expected = twins(network(), name, options, **choices)
    train(layers, expected, steps=HALF)
    plain, its = DOConvTrainer.from_layers(layers, expected)
    train(plain, its, steps=HALF, seed=2)
    train(layers, expected, steps=HALF, seed=2)
    assert difference(plain, its, layers) <= tolerance
    assert not any(type(one).__module__.startswith("do_conv") for one in plain._children.values())


def test_there_and_back_is_equal_to_the_last_bit():
    net, trainer, *_ = twins(network(), "adam", ADAM, d_mul=11)
    train(net, trainer, steps=HALF)
    plain, its = DOConvTrainer.from_layers(*trainer.to_layers())
    for one, other in ((net, trainer), (plain, its)):
        train(one, other, steps=HALF, seed=2)
    assert same_bits(values(net), values(plain))


def test_float32_and_rates_that_a_scheduler_gives():
    schedule = mx.lr_scheduler.FactorScheduler(2, 0.5)
    options = {"learning_rate": 0.05, "momentum": 0.9, "lr_scheduler": schedule}
    net, trainer, layers, expected = twins(network("float32"), "sgd", options)
    train(net, trainer, steps=HALF)
    converted, its = trainer.to_layers()
    assert its.learning_rate == trainer.learning_rate < 0.05
    train(converted, its, steps=HALF, seed=2)
    both_halves(layers, expected)
    assert its.learning_rate == expected.learning_rate
    assert_same(converted, layers, 1e-5)


def test_multipliers_and_frozen_kernels():
    net = network()
    net[3].weight.lr_mult, net[5].weight.grad_req = 0.5, "null"
    net, trainer, layers, expected = twins(net)
    train(net, trainer, steps=HALF)
    converted, its = trainer.to_layers()
    for name in ("weight", "depthwise_delta"):
        assert getattr(converted[3], name).lr_mult == 0.5
        assert getattr(converted[5], name).grad_req == "null"
    train(converted, its, steps=HALF, seed=2)
    plain, its = DOConvTrainer.from_layers(converted, its)
    train(plain, its, steps=HALF, seed=3)
    for seed in (1, 2, 3):
        train(layers, expected, steps=HALF, seed=seed)
    assert difference(plain, its, layers) <= 1e-12
    assert np.array_equal(values(plain)["5.weight"], values(net)["5.weight"])


def shared():
    """A kernel that two layers share, whose padding differs."""
    net = nn.HybridSequential()
    first = nn.Conv2D(3, 3, in_channels=3, padding=1)
    net.add(first, nn.Activation("tanh"))
    net.add(nn.Conv2D(3, 3, in_channels=3, padding=2, params=first.params), nn.Conv2D(4, 3))
    return started(net, "float64", SHAPE)


def test_shared_kernels_stay_shared():
    net, trainer, layers, expected = twins(shared())
    train(net, trainer, steps=HALF)
    converted, its = trainer.to_layers()
    assert converted[0].depthwise_delta is converted[2].depthwise_delta
    train(converted, its, steps=HALF, seed=2)
    train(layers, expected, steps=HALF)
    plain, again = DOConvTrainer.from_layers(layers, expected)
    train(plain, again, steps=HALF, seed=2)
    train(layers, expected, steps=HALF, seed=2)
    assert plain[0].weight is plain[2].weight
    assert_same(converted, layers, 1e-12)
    assert difference(plain, again, layers) <= 1e-12


def test_two_contexts():
    contexts = (mx.cpu(0), mx.cpu(1))
    _, trainer, *_ = twins(network(contexts=contexts))
    converted, its = trainer.to_layers()
    assert converted[0].depthwise_delta.list_ctx() == list(contexts)
    plain, again = DOConvTrainer.from_layers(converted, its)
    assert list(again.kernels) == list(trainer.kernels)
    assert plain[0].weight.list_ctx() == list(contexts)


def separable():
    net = nn.HybridSequential()
    net.add(DepthwiseSeparableConv2D(4, 3, in_channels=3))
    return started(net, "float64", SHAPE)


def frozen_delta():
    layers = convert(network())
    layers[3].depthwise_delta.grad_req = "null"
    return layers


REFUSED = {
    separable: "layer '0', a DepthwiseSeparableConv2D; fold the network",
    frozen_delta: r"received \['write', 1.0, 1.0\] and \['null', 1.0, 1.0\] in layer '3'",
    network: "must have a layer with W and D'; received a HybridSequential without one",
}


@pytest.mark.parametrize("make", REFUSED)
def test_layers_that_cannot_go_on_beside_plain_kernels(make):
    net = make()
    trainer = gluon.Trainer(net.collect_params(), "sgd", dict(SGD))
    with pytest.raises(DOConvError, match=REFUSED[make]):
        DOConvTrainer.from_layers(net, trainer)


def test_a_trainer_of_other_parameters_is_refused():
    layers = convert(network())
    trainer = gluon.Trainer(layers.collect_params(".*weight"), "sgd", dict(SGD))
    with pytest.raises(DOConvError, match=r"of all parameters of the network.*collect_params\(\)"):
        DOConvTrainer.from_layers(layers, trainer)


def test_kernels_that_somebody_else_has_written_or_that_are_in_a_graph(tmp_path):
    net, trainer, *_ = twins(network("float32"))
    net[0].weight.set_data(net[0].weight.data() * 2)
    with pytest.raises(DOConvError, match="layer '0' that was written since"):
        trainer.to_layers()
    net.hybridize()
    net(mx.nd.zeros((1, *SHAPE)))
    net.export(str(tmp_path / "net"))
    paths = [str(tmp_path / name) for name in ("net-symbol.json", "net-0000.params")]
    graph = gluon.SymbolBlock.imports(paths[0], ["data"], paths[1])
    with pytest.raises(DOConvError, match="that of layer 'net_conv0_fwd', inside of a graph"):
        DOConvTrainer(graph, "sgd", dict(SGD)).to_layers()


def test_exception_arguments_in_the_order_of_other_frameworks():
    net = convert(network())
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1})
    with pytest.raises(DOConvError, match=r"the network, then its gluon\.Trainer; received a Hyb"):
        DOConvTrainer.from_layers(trainer, net)


def test_a_trainer_whose_store_is_an_object():
    net, trainer, layers, expected = twins(network(), "sgd", SGD)
    trainer = DOConvTrainer(net, "sgd", SGD, kvstore=mx.kv.create("local"))
    train(net, trainer, steps=HALF)
    converted, its = trainer.to_layers()
    train(converted, its, steps=HALF, seed=2)
    both_halves(layers, expected)
    assert_same(converted, layers, 1e-12)
    of_layers = gluon.Trainer(
        layers.collect_params(), "sgd", SGD, kvstore=mx.kv.create("local"), update_on_kvstore=False
    )
    train(layers, of_layers)
    plain, its = DOConvTrainer.from_layers(layers, of_layers)
    train(layers, of_layers, seed=3)
    train(plain, its, seed=3)
    assert difference(plain, its, layers) <= 1e-12
