"""Copies of a network together with its `DOConvTrainer`."""

import copy
import pickle

import do_conv.gluon  # noqa: F401 - before mxnet, which reads names that this module restores

# isort: split
import mxnet as mx
import numpy as np
import pytest
from gluon_twins import SGD, backward, batches, first, network, same_bits, values

from do_conv.gluon import DOConvTrainer

OPTIMIZERS = {"sgd": SGD, "adam": {"learning_rate": 0.01}}
COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda pair: pickle.loads(pickle.dumps(pair))}


def train(net, trainer, seed):
    for x in batches(net, steps=3, seed=seed):
        backward(net, x)
        trainer.step(4)


def held(net, trainer):
    """A copy of the network's values, of W and of D'."""
    mx.nd.waitall()
    found = {f"{name} of the network": value for name, value in values(net).items()}
    for kernel in trainer.kernels.values():
        found.update({f"{kernel.name}.{name}": first(part) for name, part in kernel.parts})
    return found


def with_gradients(net):
    """The network with new gradient buffers: MXNet leaves them out of copies."""
    for parameter in net.collect_params().values():
        wanted, parameter.grad_req = parameter.grad_req, "null"
        parameter.grad_req = wanted
    return net


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_a_copy_trains_on_to_the_same_bits_and_the_original_stays(copied, optimizer):
    def d_mul(spec):  # the C loops step the first kernel, and MXNet those with further slots
        return spec.area + 2 * (spec.groups > 1)

    net = network("float32")
    options = dict(OPTIMIZERS[optimizer])
    trainer = DOConvTrainer(net, optimizer, options, depthwise_init="he", d_mul=d_mul)
    train(net, trainer, seed=1)
    before = held(net, trainer)

    twin, its = copied((net, trainer))
    assert its.net is twin
    assert same_bits(held(twin, its), before)
    train(with_gradients(twin), its, seed=2)
    assert same_bits(held(net, trainer), before)
    after = held(twin, its)
    assert not [name for name in before if np.array_equal(after[name], before[name])]
    train(net, trainer, seed=2)
    assert same_bits(held(net, trainer), after)
