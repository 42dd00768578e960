"""Saved states of `DOConvTrainer`, and kernels that somebody else writes."""

import do_conv.gluon  # before mxnet, which reads names that this module restores

# isort: split
import mxnet as mx
import numpy as np
import pytest
from gluon_twins import (
    SGD,
    backward,
    batches,
    difference,
    first,
    give,
    network,
    same_bits,
    train,
    values,
)
from mxnet import gluon

from do_conv.gluon import DOConvTrainer, convert
from do_conv.models.samples import SAMPLE

OPTIMIZERS = {"sgd": SGD, "adam": {"learning_rate": 0.01}, "nag": SGD}
CHOICES = {"identity": {}, "he, large d_mul": {"depthwise_init": "he", "d_mul": 11}}
TWO = [mx.cpu(0), mx.cpu(1)]


def parts(trainer):
    """A copy of W and D' of every kernel."""
    mx.nd.waitall()
    return {
        f"{kernel.name}.{name}": first(part)
        for kernel in trainer.kernels.values()
        for name, part in kernel.parts
    }


def learned(net):
    """All values but the statistics, of which each context has its own."""
    return {name: value for name, value in values(net).items() if "running" not in name}


@pytest.mark.parametrize("contexts", [TWO[:1], TWO], ids=["one context", "two contexts"])
@pytest.mark.parametrize("choices", CHOICES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_resumed_training_is_equal_to_the_last_bit(optimizer, dtype, choices, contexts, tmp_path):
    def go_on(net, trainer, seed):
        for x in batches(net, steps=4, seed=seed):
            backward(net, x, contexts)
            trainer.step(4)

    made = lambda net: DOConvTrainer(net, optimizer, OPTIMIZERS[optimizer], **CHOICES[choices])  # noqa: E731
    net = network(dtype, contexts)
    trainer = made(net)
    go_on(net, trainer, 1)
    mx.nd.waitall()
    net.save_parameters(str(tmp_path / "net.params"))
    trainer.save_states(str(tmp_path / "trainer.states"))
    go_on(net, trainer, 2)

    resumed = network(dtype, contexts)
    its = made(resumed)
    resumed.load_parameters(str(tmp_path / "net.params"), ctx=contexts)
    its.load_states(str(tmp_path / "trainer.states"))
    go_on(resumed, its, 2)
    assert same_bits(learned(resumed), learned(net))
    assert same_bits(parts(its), parts(trainer))


@pytest.mark.parametrize("choices", CHOICES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_going_on_with_layers(optimizer, choices, tmp_path):
    """A plain trainer of the converted network takes the states: numbers are the same."""
    path = str(tmp_path / "trainer.states")
    net = network()
    trainer = DOConvTrainer(net, optimizer, OPTIMIZERS[optimizer], **CHOICES[choices])
    train(net, trainer, steps=4)
    trainer.save_states(path)
    layers = convert(net, **CHOICES[choices])
    give(layers, trainer)
    its = gluon.Trainer(layers.collect_params(), optimizer, OPTIMIZERS[optimizer])
    its.load_states(path)
    train(net, trainer, steps=4, seed=2)
    train(layers, its, steps=4, seed=2)
    assert difference(net, trainer, layers) <= 1e-12


def test_multipliers_after_loading(tmp_path):
    path = str(tmp_path / "trainer.states")
    net = network()
    trainer = DOConvTrainer(net, "sgd", {"learning_rate": 0.1})
    train(net, trainer, steps=2)
    trainer.save_states(path)
    trainer.load_states(path)
    net[3].weight.lr_mult = 0.0
    before = parts(trainer)
    train(net, trainer, steps=2)
    after = parts(trainer)
    held = {name for name, value in after.items() if np.array_equal(value, before[name])}
    assert held == {"3.weight", "3.depthwise_delta"}


def test_exception_states_of_another_trainer(tmp_path):
    path = str(tmp_path / "trainer.states")
    net = network()
    plain = gluon.Trainer(net.collect_params(), "sgd", SGD)
    backward(net, next(batches(net)))
    plain.step(4)
    plain.save_states(path)
    trainer = DOConvTrainer(net, "adam", {"learning_rate": 0.01})
    with pytest.raises(do_conv.DOConvError, match="states without '0"):
        trainer.load_states(path)
    DOConvTrainer(network(), "sgd", SGD, d_mul=20).save_states(path)
    with pytest.raises(do_conv.DOConvError, match=r"0.weight.*\(8, 3, 3, 3\).*\(8, 3, 20\)"):
        trainer.load_states(path)
    assert type(trainer.optimizer).__name__ == "Adam"
    backward(net, next(batches(net)))
    trainer.step(4)


def test_exception_states_for_other_kernels(tmp_path):
    path = str(tmp_path / "trainer.states")
    net = network()
    trainer = DOConvTrainer(net, "sgd", SGD)
    train(net, trainer, steps=2)
    trainer.save_states(path)
    fresh = network()
    its = DOConvTrainer(fresh, "sgd", SGD)
    its.load_states(path)
    before = values(fresh)
    with pytest.raises(do_conv.DOConvError, match="a state of a trainer for another kernel"):
        train(fresh, its, steps=1)
    mx.nd.waitall()
    assert np.array_equal(values(fresh)["3.weight"], before["3.weight"])
    its.restore_weights()
    kernels = {f"{name}.weight" for name in its.kernels}
    assert all(np.array_equal(values(fresh)[name], values(net)[name]) for name in kernels)
    train(fresh, its, steps=1)


def set_data(net, tmp_path):
    net[3].weight.set_data(net[3].weight.data(mx.cpu(0)) * 2)


def load_parameters(net, tmp_path):
    path = str(tmp_path / "net.params")
    other = network("float32")
    # Not NumPy's array: on some processors MXNet cannot write one over a kernel that an inference
    # has laid out anew.
    other[3].weight.set_data(mx.nd.array(first(other[3].weight) + 1))
    mx.nd.waitall()
    other.save_parameters(path)
    net.load_parameters(path)


def force_reinit(net, tmp_path):
    net[3].initialize(mx.init.Xavier(), ctx=net[3].weight.list_ctx(), force_reinit=True)


def write_one_context(net, tmp_path):
    net[3].weight.list_data()[-1][:] *= 2


def nan(net, tmp_path):
    net[3].weight.set_data(net[3].weight.data(mx.cpu(0)) * np.nan)


@pytest.mark.parametrize("in_parts", [False, True], ids=["step", "update"])
@pytest.mark.parametrize("contexts", [TWO[:1], TWO], ids=["one context", "two contexts"])
@pytest.mark.parametrize("write", [set_data, load_parameters, force_reinit, write_one_context, nan])
def test_a_kernel_that_somebody_else_writes(write, contexts, in_parts, tmp_path):
    net = network("float32", contexts)
    trainer = DOConvTrainer(net, "sgd", SGD)

    def step(seed):
        backward(net, next(batches(net, seed=seed)), contexts)
        if in_parts:
            trainer.allreduce_grads()
        update(4)

    update = trainer.update if in_parts else trainer.step
    step(1)
    write(net, tmp_path)
    backward(net, next(batches(net, seed=2)), contexts)
    if in_parts:
        trainer.allreduce_grads()
    before, held = values(net), parts(trainer)
    gradients = [g.copy().asnumpy() for g in net[3].weight.list_grad()]
    for _ in range(2):
        with pytest.raises(do_conv.DOConvError, match=r"layer '.'.*take_weights.*restore_weights"):
            update(4)
    assert all(np.array_equal(v, before[n], equal_nan=True) for n, v in values(net).items())
    assert same_bits(parts(trainer), held)
    after = [g.copy().asnumpy() for g in net[3].weight.list_grad()]
    assert all(np.array_equal(*pair, equal_nan=True) for pair in zip(gradients, after, strict=True))
    trainer.restore_weights()
    step(3)
    assert not same_bits(parts(trainer), held)
    assert all(np.isfinite(value).all() for value in values(net).values() if write is not nan)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("choices", CHOICES)
def test_taking_the_weights_is_starting_anew(choices, optimizer):
    net = network()
    trainer = DOConvTrainer(net, optimizer, OPTIMIZERS[optimizer], **CHOICES[choices])
    train(net, trainer, steps=2)
    net.initialize(mx.init.Xavier(), force_reinit=True)
    other = network()
    for name, parameter in net._collect_params_with_prefix().items():
        other._collect_params_with_prefix()[name].set_data(first(parameter))
    mx.random.seed(8)
    trainer.take_weights()
    mx.random.seed(8)
    its = DOConvTrainer(other, optimizer, OPTIMIZERS[optimizer], **CHOICES[choices])
    assert same_bits(parts(trainer), parts(its))
    for one in (net, other):  # everything else keeps its momentum
        for name, parameter in one._collect_params_with_prefix().items():
            if name.removesuffix(".weight") not in trainer.kernels:
                parameter.grad_req = "null"
    train(net, trainer, steps=2)
    train(other, its, steps=2)
    names = {f"{name}.weight" for name in trainer.kernels}
    assert all(np.array_equal(values(net)[name], values(other)[name]) for name in names)
    assert same_bits(parts(trainer), parts(its))


def test_a_write_that_is_missed_and_one_that_is_not():
    """A small kernel is compared as a whole, of a large one a sample."""
    net = network()
    trainer = DOConvTrainer(net, "sgd", SGD)
    train(net, trainer, steps=1)
    kernel = trainer.kernels["0"]
    size = int(np.prod(kernel.parameter.shape))
    assert size < SAMPLE
    for place in range(0, size, 50):
        changed = first(kernel.parameter)
        changed.reshape(-1)[place] += 1
        kernel.parameter.set_data(mx.nd.array(changed, dtype="float64"))
        backward(net, next(batches(net)))
        with pytest.raises(do_conv.DOConvError, match="layer '0'"):
            trainer.step(4)
        trainer.restore_weights()


def test_a_pruned_channel_or_position_of_a_large_kernel():
    net = gluon.nn.Conv2D(64, 3, in_channels=64)
    net.initialize(mx.init.Xavier())
    for axis, at in ((1, 5), (1, 63), (2, 1), (3, 2)):
        trainer = DOConvTrainer(net, "sgd", SGD)
        before = first(net.weight)
        pruned = before.copy()
        np.moveaxis(pruned, axis, 0)[at] = 0
        net.weight.set_data(mx.nd.array(pruned))
        backward(net, mx.nd.ones((4, 64, 3, 3)))
        with pytest.raises(do_conv.DOConvError, match="written since"):
            trainer.step(4)
        net.weight.set_data(mx.nd.array(before))


def test_evaluation_between_steps_is_no_write():
    """A float32 convolution reorders its kernel where nothing is recorded."""
    net = network("float32")
    trainer = DOConvTrainer(net, "sgd", SGD)
    for hybridized in (False, True):
        if hybridized:
            net.hybridize(static_alloc=True, static_shape=True)
        for x in batches(net, steps=5):
            net(x)
            backward(net, x)
            net(x)
            trainer.step(4)
            net(x)
