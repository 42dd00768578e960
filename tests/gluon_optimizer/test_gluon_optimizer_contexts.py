"""`DOConvTrainer` on several contexts, and with several workers."""

import do_conv.gluon  # before mxnet, which reads names that this module restores

# isort: split
import mxnet as mx
import numpy as np
import pytest
from gluon_twins import SGD, backward, batches, difference, network, train, twins, values

from do_conv.gluon import DOConvTrainer

CONTEXTS = {1: [mx.cpu(0)], 2: [mx.cpu(0), mx.cpu(1)]}
CHOICES = {"identity": {}, "he, large d_mul": {"depthwise_init": "he", "d_mul": 11}}


def copies(parameter):
    return [array.copy().asnumpy() for array in parameter.list_data()]


@pytest.mark.parametrize("in_parts", [False, True], ids=["step", "allreduce_grads and update"])
@pytest.mark.parametrize("hybridized", [False, True])
@pytest.mark.parametrize("choices", CHOICES)
def test_two_contexts_give_what_one_gives(choices, hybridized, in_parts):
    found = []
    for contexts in CONTEXTS.values():
        net = network(contexts=contexts)
        net[1].collect_params().setattr("grad_req", "null")
        net[1]._kwargs["use_global_stats"] = True  # batches are halved
        if hybridized:
            net.hybridize(static_alloc=True)
        mx.random.seed(4)
        trainer = DOConvTrainer(net, "sgd", SGD, **CHOICES[choices])
        for x in batches(net):
            backward(net, x, contexts)
            if in_parts:
                trainer.allreduce_grads()
                trainer.update(4)
            else:
                trainer.step(4)
        held = list(net.collect_params().values())
        for kernel in trainer.kernels.values():
            held += [kernel.weight, kernel.delta]
            assert np.abs(copies(kernel.delta)[0]).max() > 0.001
        for parameter in held:
            assert len(copies(parameter)) == len(contexts)
            assert all(np.array_equal(one, copies(parameter)[0]) for one in copies(parameter))
        found.append([copies(parameter)[0] for parameter in held])
    for one, two in zip(*found, strict=True):
        np.testing.assert_allclose(two, one, rtol=0, atol=1e-13)


def test_a_context_without_a_new_gradient():
    """It keeps its parameters, as with layers; the plain trainer refuses unless it is told."""
    net, trainer, layers, expected = twins(network(contexts=CONTEXTS[2]), depthwise_init="he")
    for x in batches(net, steps=3):
        for model in (net, layers):
            model.collect_params().zero_grad()  # old gradients are summed, too
            backward(model, x, CONTEXTS[1])
        trainer.step(4, ignore_stale_grad=True)
        expected.step(4, ignore_stale_grad=True)
    for name, kernel in trainer.kernels.items():
        layer = layers[int(name)]
        for one, other in ((kernel.weight, layer.weight), (kernel.delta, layer.depthwise_delta)):
            first, second = copies(one)
            assert not np.array_equal(first, second)
            np.testing.assert_allclose(copies(other), [first, second], rtol=0, atol=1e-13)
    backward(net, x, CONTEXTS[1])
    before = values(net)
    with pytest.raises(UserWarning, match=r"on context cpu\(1\) has not been updated"):
        trainer.step(4)
    assert all(np.array_equal(value, before[name]) for name, value in values(net).items())


@pytest.mark.parametrize("store", ["device", "local"])
def test_the_trainer_steps_and_not_the_store(store, monkeypatch):
    monkeypatch.setenv("MXNET_UPDATE_ON_KVSTORE", "1")
    net = network(contexts=CONTEXTS[2])
    trainer = DOConvTrainer(net, "sgd", SGD, kvstore=store)
    before = values(net)
    backward(net, next(batches(net)), CONTEXTS[2])
    trainer.step(4)
    for name, kernel in trainer.kernels.items():
        assert not np.array_equal(values(net)[f"{name}.weight"], before[f"{name}.weight"])
        assert copies(kernel.delta)[0].any()


@pytest.mark.parametrize(
    ("options", "received"),
    [
        ({"update_on_kvstore": True}, "kvstore='device' and update_on_kvstore=True"),
        ({"kvstore": "dist_async"}, "kvstore='dist_async'"),
        (
            {"kvstore": "dist_device_async", "update_on_kvstore": True},
            "kvstore='dist_device_async' and update_on_kvstore=True",
        ),
    ],
)
def test_exception_a_store_that_steps_itself(options, received):
    net = network(contexts=CONTEXTS[2])
    before = values(net)
    with pytest.raises(do_conv.DOConvError, match=f"not on the store; received {received}; leave"):
        DOConvTrainer(net, "sgd", SGD, depthwise_init="he", **options)
    for name, value in values(net).items():
        assert np.array_equal(value, before[name])


@pytest.mark.parametrize("name", ["nadam", "sgld"])
def test_exception_an_optimizer_whose_steps_differ_by_context(name):
    options = {"learning_rate": 0.01}
    with pytest.raises(
        do_conv.DOConvError, match=r"the same step in each; received a (Nadam|SGLD)"
    ):
        DOConvTrainer(network(contexts=CONTEXTS[2]), name, options)
    DOConvTrainer(network(contexts=CONTEXTS[1]), name, options)


def test_exception_a_network_that_moves_afterwards():
    net = network()
    trainer = DOConvTrainer(net, "sgd", SGD)
    net.collect_params().reset_ctx(CONTEXTS[2])
    backward(net, next(batches(net)), CONTEXTS[2])
    before = values(net)
    for call in (lambda: trainer.step(4), trainer.take_weights, trainer.restore_weights):
        with pytest.raises(do_conv.DOConvError, match="must stay in the contexts"):
            call()
    assert all(np.array_equal(value, before[name]) for name, value in values(net).items())


def test_a_network_that_is_cast_afterwards():
    net, trainer, layers, expected = twins(network("float32"), options={"learning_rate": 0.1})
    train(net, trainer, steps=3)
    train(layers, expected, steps=3)
    net.cast("float64")
    train(net, trainer, steps=3)
    assert {array.dtype for array in values(net).values()} == {np.dtype("float64")}
    train(layers, expected, steps=3)
    assert difference(net, trainer, layers) <= 1e-5
    net.cast("float16")
    net.cast("float64")
    backward(net, next(batches(net)))
    with pytest.raises(do_conv.DOConvError, match=r"take_weights\(\)"):
        trainer.step(4)
