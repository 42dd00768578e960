"""Options of a network's parameters with `DOConvTrainer`, and the start of W and D'."""

import do_conv.gluon  # noqa: F401 - before mxnet, which reads names that this module restores

# isort: split
import mxnet as mx
import numpy as np
import pytest
from gluon_twins import (
    SGD,
    SHAPE,
    backward,
    batches,
    difference,
    first,
    network,
    same_bits,
    started,
    train,
    twins,
    values,
)
from mxnet import gluon
from mxnet.contrib.amp.loss_scaler import LossScaler
from mxnet.gluon import nn

from do_conv import DOConvError
from do_conv.gluon import DOConvTrainer, convert, fold, plan


def test_a_trainer_is_a_plain_one_from_outside():
    net = network()
    trainer = DOConvTrainer(net, "sgd", SGD, where="0")
    assert isinstance(trainer, gluon.Trainer)
    assert trainer.learning_rate == SGD["learning_rate"]
    trainer.set_learning_rate(0.25)
    assert trainer.optimizer.learning_rate == 0.25
    assert repr(trainer) == "DOConvTrainer(SGD, 1 kernel)"
    kernel = trainer.kernels["0"]
    assert kernel.parameter is net[0].weight
    assert kernel.weight.shape == (8, 3, 3, 3)
    assert kernel.delta.shape == (3, 9, 3, 3)
    layers = convert(net)
    assert kernel.weight.name == layers[0].weight.name
    assert kernel.delta.name == layers[0].depthwise_delta.name


def test_the_arguments_are_a_plain_trainer_s_in_their_order():
    net = network()
    trainer = DOConvTrainer(net, "sgd", SGD, "local", {"type": "2bit"}, False)
    assert trainer._kvstore_params["kvstore"] == "local"
    assert trainer._compression_params == {"type": "2bit"}


def test_some_parameters_are_trained():
    net = network()
    chosen = [net[0].weight, net[3].bias, net[10].weight]
    trainer = DOConvTrainer(net, "sgd", SGD, params=chosen)
    assert list(trainer.kernels) == ["0"]
    layers, expected = trainer.to_layers()
    assert len(expected._params) == 4
    before = values(net)
    train(net, trainer)
    train(layers, expected)
    assert difference(net, trainer, layers) <= 1e-12
    moved = {name for name, value in values(net).items() if (value != before[name]).any()}
    assert {name for name in moved if "running" not in name} == {"0.weight", "3.bias", "10.weight"}


def test_exception_parameters_without_a_kernel():
    net = network()
    with pytest.raises(DOConvError, match=r"must hold a kernel .*; leave params out"):
        DOConvTrainer(net, "sgd", SGD, params=[net[10].weight])


@pytest.mark.parametrize("d_mul", [None, 20])
def test_the_plan_is_that_of_what_is_trained(d_mul):
    options = {"where": r"^[037]$", "d_mul": d_mul}
    net = network()
    trainer = DOConvTrainer(net, "sgd", SGD, **options)
    wanted = plan(net, input_shape=(2, *SHAPE), door="optimizer", **options)
    assert str(trainer.plan(input_shape=(2, *SHAPE))) == str(wanted)
    assert [row.name for row in trainer.plan().converted] == list(trainer.kernels)


@pytest.mark.parametrize("d_mul", [None, 20])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_identity_start_changes_no_bit(dtype, d_mul):
    net = network("float32")
    net.cast(dtype)
    before = values(net)
    trainer = DOConvTrainer(net, "sgd", SGD, d_mul=d_mul)
    assert same_bits(values(net), before)
    trainer.restore_weights()
    assert same_bits(values(net), before)


@pytest.mark.parametrize("d_mul", [None, 20])
def test_the_he_start_is_that_of_the_layers_and_is_written_at_once(d_mul):
    net, before = network(), values(network())
    mx.random.seed(3)
    expected = fold(convert(net, depthwise_init="he", d_mul=d_mul))
    mx.random.seed(3)
    trainer = DOConvTrainer(net, "sgd", SGD, depthwise_init="he", d_mul=d_mul)
    assert same_bits(values(net), values(expected))
    changed = {
        name for name, value in values(net).items() if not np.array_equal(value, before[name])
    }
    assert changed == {f"{name}.weight" for name in trainer.kernels}


def test_exception_sizes_that_are_not_known_yet():
    net = nn.HybridSequential()
    net.add(nn.Conv2D(4, 3, in_channels=3), nn.Conv2D(4, 3))
    rule = "layer '.' without parameters"
    with pytest.raises(DOConvError, match=rule):
        DOConvTrainer(net, "sgd", SGD)
    net.initialize()
    with pytest.raises(DOConvError, match=rule):
        DOConvTrainer(net, "sgd", SGD)
    net(mx.nd.zeros((1, *SHAPE)))
    assert list(DOConvTrainer(net, "sgd", SGD).kernels) == ["0", "1"]


@pytest.mark.parametrize("net", [nn.Dense(2), nn.Conv2D(3, 1)], ids=["dense", "pointwise"])
def test_exception_no_kernel(net):
    with pytest.raises(DOConvError, match="must have a convolution that can be converted"):
        DOConvTrainer(net, "sgd", SGD)


@pytest.mark.parametrize("choice", [{"d_mul": 8}, {"depthwise_init": "zeros"}, {"where": 3}])
def test_exception_an_option_that_breaks_a_rule(choice):
    with pytest.raises(DOConvError):
        DOConvTrainer(network(), "sgd", SGD, **choice)


@pytest.mark.parametrize("name", ["lr_mult", "wd_mult"])
@pytest.mark.parametrize("factor", [0.0, 0.5])
def test_multipliers_of_a_kernel_are_those_of_both(name, factor):
    net, trainer, layers, expected = twins(network())
    setattr(net[3].weight, name, factor)  # after the trainer was made
    for parameter in (layers[3].weight, layers[3].depthwise_delta):
        setattr(parameter, name, factor)
    before = values(net)
    train(net, trainer)
    train(layers, expected)
    assert difference(net, trainer, layers) <= 1e-12
    held = np.array_equal(values(net)["3.weight"], before["3.weight"])
    assert held == (name == "lr_mult" and factor == 0)


def test_frozen_kernels():
    net, trainer, layers, expected = twins(network(), depthwise_init="he")
    before = values(net)
    net[3].collect_params().setattr("grad_req", "null")
    layers[3].collect_params().setattr("grad_req", "null")
    train(net, trainer)
    train(layers, expected)
    assert difference(net, trainer, layers) <= 1e-12
    assert np.array_equal(values(net)["3.weight"], before["3.weight"])
    for one in (net, layers):
        one[3].collect_params().setattr("grad_req", "write")
    train(net, trainer, seed=2)
    train(layers, expected, seed=2)
    assert difference(net, trainer, layers) <= 1e-12
    assert not np.array_equal(values(net)["3.weight"], before["3.weight"])


class TwoWays(nn.HybridBlock):
    """A network of which a step may use one half."""

    def __init__(self):
        super().__init__(prefix="ways_")
        with self.name_scope():
            self.one = nn.Conv2D(4, 3, in_channels=3, use_bias=False)
            self.two = nn.Conv2D(4, 3, in_channels=3, use_bias=False)
        self.way = "both"

    def hybrid_forward(self, F, x):  # noqa: N803
        ways = {"one": [self.one], "two": [self.two], "both": [self.one, self.two]}[self.way]
        return sum(layer(x) for layer in ways)


def test_kernels_without_a_new_gradient():
    net = started(TwoWays(), "float64", SHAPE)
    net, trainer, layers, expected = twins(net, depthwise_init="he")
    for i, x in enumerate(batches(net)):
        for model, inner in ((net, trainer), (layers, expected)):
            model.way = ("both", "one", "two", "one")[i % 4]
            backward(model, x)
            inner.step(4, ignore_stale_grad=True)
    assert difference(net, trainer, layers) <= 1e-12
    net.way = "one"
    backward(net, x)
    before = values(net), *(first(part) for k in trainer.kernels.values() for _, part in k.parts)
    with pytest.raises(UserWarning, match=r"ways_conv1_weight. on context cpu\(0\) has not"):
        trainer.step(4)
    assert same_bits(values(net), before[0])
    after = [first(part) for k in trainer.kernels.values() for _, part in k.parts]
    assert all(np.array_equal(*pair) for pair in zip(before[1:], after, strict=True))


def test_shared_kernels():
    net = nn.HybridSequential(prefix="shared_")
    conv = nn.Conv2D(3, 3, padding=1, in_channels=3)
    net.add(conv, nn.Activation("tanh"), conv, nn.Activation("tanh"))
    net.add(nn.Conv2D(3, 3, padding=1, in_channels=3, params=conv.params))
    net = started(net, "float64", SHAPE)
    net, trainer, layers, expected = twins(net, depthwise_init="he")
    assert list(trainer.kernels) == ["0"]
    train(net, trainer)
    train(layers, expected)
    assert difference(net, trainer, layers) <= 1e-12


def test_a_kernel_that_another_layer_reads_otherwise_is_left():
    net = nn.HybridSequential(prefix="shared_")
    conv = nn.Conv2D(4, 3, in_channels=4)
    net.add(conv, nn.Conv2D(4, 3, groups=1, in_channels=4), nn.Conv2DTranspose(4, 3, in_channels=4,
            params=conv.params))  # fmt: skip
    net = started(net, "float64", (4, 8, 8))
    assert list(DOConvTrainer(net, "sgd", SGD).kernels) == ["1"]


def test_the_gradient_is_divided_by_the_size_of_the_batch():
    found = []
    for size, factor in ((1, 1), (8, 8)):
        net = network()
        trainer = DOConvTrainer(net, "sgd", SGD)
        for x in batches(net, steps=3):
            backward(net, x)
            for parameter in net.collect_params().values():
                if parameter.grad_req != "null":
                    parameter.grad()[:] *= factor
            trainer.step(size)
        found.append(values(net))
    for name, value in found[0].items():
        np.testing.assert_allclose(found[1][name], value, rtol=0, atol=1e-14)


def test_gradients_clipped_between_the_sum_and_the_update():
    """With `allreduce_grads` and `update` in the place of `step`."""
    nets = []
    for in_parts in (False, True):
        net = network()
        trainer = DOConvTrainer(net, "sgd", SGD)
        for x in batches(net, steps=3):
            backward(net, x)
            if in_parts:
                trainer.allreduce_grads()
                trainer.update(4)
            else:
                trainer.step(4)
        nets.append(values(net))
    assert same_bits(*nets)


def test_an_overflow_skips_the_step_as_a_whole():
    net, trainer, layers, expected = twins(network("float32"), depthwise_init="he")
    for model, inner in ((net, trainer), (layers, expected)):
        inner._amp_loss_scaler = LossScaler()
        for i, x in enumerate(batches(model, steps=4)):
            backward(model, x)
            before = values(model)
            if i == 2:
                model[3].weight.grad()[0, 0] = np.inf
            inner.step(4)
            assert same_bits(values(model), before) == (i == 2)
            if i == 2:  # the gradients are still new ones
                for parameter in model[3].collect_params().values():
                    parameter.zero_grad()
                inner.step(4)
                assert not same_bits(values(model), before)
        assert inner._amp_loss_scaler.loss_scale == 2.0**15
    assert difference(net, trainer, layers) <= 1e-5


def test_networks_of_numpy_arrays():
    """Both kinds of arrays share the same numbers."""
    found = []
    for is_np in (False, True):
        with mx.util.np_shape(is_np), mx.util.np_array(is_np):
            net = nn.HybridSequential(prefix="np_")
            net.add(nn.Conv2D(4, 3, in_channels=3), nn.Conv2DTranspose(2, 2, in_channels=4))
            net.initialize()
            for parameter, seed in zip(net.collect_params().values(), range(4), strict=True):
                drawn = np.random.default_rng(seed).normal(0, 0.3, parameter.shape)
                array = mx.np.array if is_np else mx.nd.array
                parameter.set_data(array(drawn, dtype="float32"))
            trainer = DOConvTrainer(net, "sgd", SGD, d_mul=11)
            trainer.take_weights()
            for kernel in trainer.kernels.values():  # drawn slots
                kernel.weight.set_data(kernel.weight.data() * 0 + 0.1)
            trainer.restore_weights()
            ones = (mx.np if is_np else mx.nd).ones((2, *SHAPE))
            for _ in range(3):
                with mx.autograd.record():
                    loss = (net(ones) ** 2).sum()
                loss.backward()
                trainer.step(100)
            found.append(values(net))
            expected = mx.np.ndarray if is_np else mx.nd.NDArray
            assert type(net[0].weight.data()) is expected
    for name, value in found[0].items():
        np.testing.assert_allclose(found[1][name], value, rtol=0, atol=1e-6)


@pytest.mark.parametrize("wrong", [gluon.Trainer, None], ids=["a trainer", "none"])
def test_exception_an_optimizer_that_is_none(wrong):
    net = network()
    given = wrong and wrong(net.collect_params(), "sgd", SGD)
    with pytest.raises(DOConvError, match=r"an optimizer of MXNet, or its name; received a \w+"):
        DOConvTrainer(net, given)
