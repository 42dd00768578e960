"""Steps of `DOConvTrainer` by the C loops are those by MXNet's operators, to rounding."""

import do_conv.gluon  # noqa: F401 - before mxnet, which reads names that this module restores

# isort: split
import mxnet as mx
import numpy as np
import pytest
from gluon_twins import SGD, SHAPE, backward, batches, first, network, started, values
from mxnet.gluon import nn

from do_conv import native
from do_conv.gluon import DOConvTrainer

pytestmark = pytest.mark.skipif(not native.LIBRARIES, reason="installed without a C compiler")

CONTEXTS = {"one context": [mx.cpu(0)], "two contexts": [mx.cpu(0), mx.cpu(1)]}
STEPS = 4
OPTIMIZERS = {
    "plain": ("sgd", {"learning_rate": 0.1, "wd": 0.01}),
    "momentum": ("sgd", SGD),
    "clipped": ("sgd", {**SGD, "clip_gradient": 0.02}),
    "schedule": (
        "sgd",
        lambda: {**SGD, "lr_scheduler": mx.lr_scheduler.FactorScheduler(2, 0.5)},
    ),
    "nesterov": ("nag", SGD),
    "adam": ("adam", {"learning_rate": 0.01, "epsilon": 1e-4, "wd": 0.01}),
}
TOLERANCES = {"float32": 1e-5, "float64": 1e-12}


@pytest.fixture
def without_loops(monkeypatch):
    """A switch that leaves all arrays to MXNet's operators."""
    return lambda: monkeypatch.setattr(native, "LIBRARIES", {})


def trainer_of(net, name, choices):
    optimizer, options = OPTIMIZERS[name]
    mx.random.seed(3)
    options = options() if callable(options) else dict(options)
    return DOConvTrainer(net, optimizer, options, **choices)


def train(net, trainer, contexts=CONTEXTS["one context"], seed=1):
    for x in batches(net, steps=STEPS, seed=seed):
        backward(net, x, contexts)
        trainer.step(4)


def held(net, trainer):
    """Everything that training has changed: the network, W, D' and the optimizer's state."""
    mx.nd.waitall()
    found = values(net)
    for kernel in trainer.kernels.values():
        found.update({f"{kernel.name}.{name} in the trainer": first(p) for name, p in kernel.parts})
    for i, updater in enumerate(trainer._updaters):
        for number, state in updater.states.items():
            arrays = state if isinstance(state, (tuple, list)) else [state]
            for j, array in enumerate(arrays):
                if array is not None:
                    found[f"state {j} of {number} in {i}"] = array.asnumpy()
    return found


def assert_near(found, expected, tolerance):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("contexts", CONTEXTS)
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_and_states_are_those_of_the_operators(name, dtype, contexts, without_loops):
    found = []
    for prepare in (lambda: None, without_loops):
        prepare()
        net = network(dtype, CONTEXTS[contexts])
        trainer = trainer_of(net, name, {"depthwise_init": "he"})
        train(net, trainer, CONTEXTS[contexts])
        found.append(held(net, trainer))
    assert_near(*found, TOLERANCES[dtype])


def test_numbers_are_rounded_as_by_the_operators(without_loops):
    """A small rate, by which a loss of digits would show."""
    options = {"learning_rate": 1e-6, "momentum": 0.9, "wd": 1e-3}
    moves = []
    for prepare in (lambda: None, without_loops):
        prepare()
        net = network()
        trainer = DOConvTrainer(net, "sgd", options)
        train(net, trainer)
        moves.append(first(trainer.kernels["0"].delta))
    assert np.abs(moves[0]).max() > 0
    np.testing.assert_allclose(*moves, rtol=1e-9, atol=1e-18)


def test_states_go_on_without_the_loops(without_loops, tmp_path):
    """A machine without them rounds W' in another way, and knows it as the composed one."""
    path, parameters = str(tmp_path / "trainer.states"), str(tmp_path / "net.params")
    net = network("float32")
    trainer = trainer_of(net, "momentum", {})
    train(net, trainer)
    mx.nd.waitall()
    trainer.save_states(path)
    net.save_parameters(parameters)
    train(net, trainer, seed=2)
    without_loops()
    resumed = network("float32")
    its = trainer_of(resumed, "momentum", {})
    resumed.load_parameters(parameters)
    its.load_states(path)
    train(resumed, its, seed=2)
    assert_near(held(resumed, its), held(net, trainer), 1e-5)


def test_the_optimizer_changes_in_the_middle(without_loops):
    """The same momentum is used by the loops and by the operators."""
    found = []
    for prepare in (lambda: None, without_loops):
        prepare()
        net = network()
        trainer = trainer_of(net, "momentum", {})
        for seed, clip in enumerate((None, 0.02, None)):
            trainer.optimizer.clip_gradient = clip
            train(net, trainer, seed=seed)
        found.append(held(net, trainer))
    assert_near(*found, 1e-12)


@pytest.mark.parametrize("contexts", CONTEXTS)
@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_many_channels_and_evaluation_between_steps(name, contexts, without_loops):
    """In float32 the loops take eight channels at a time, and convolutions reorder the kernels."""
    found = []
    for prepare in (lambda: None, without_loops):
        prepare()
        net = nn.HybridSequential(prefix="wide_")
        with net.name_scope():  # states are numbered in the order of names
            net.add(nn.Conv2D(32, 3, padding=1), nn.Activation("tanh"), nn.Conv2D(48, 3))
        net = started(net, "float32", SHAPE, CONTEXTS[contexts])
        trainer = trainer_of(net, name, {})
        for x in batches(net, steps=STEPS):
            net(x)
            backward(net, x, CONTEXTS[contexts])
            net(x)
            trainer.step(4)
        found.append(held(net, trainer))
    assert_near(*found, 1e-5)
