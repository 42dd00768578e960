"""The parameters of the plain network: what `load_parameters` of that network takes."""

import do_conv.gluon  # noqa: F401 - before mxnet, which reads names that this module restores

# isort: split
import math

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from mxnet.gluon import nn

from do_conv import DOConvError
from do_conv.gluon import (
    DepthwiseSeparableConv2D,
    DOConv2D,
    DOConv2DTranspose,
    folded_parameters,
)


class Pair(nn.HybridBlock):
    """What a separable layer folds to."""

    def __init__(self, channels, kernel_size, d_mul=1):
        super().__init__()
        options = {"groups": 8, "use_bias": False, "in_channels": 8}
        self.depthwise = nn.Conv2D(8 * d_mul, kernel_size, **options)
        self.pointwise = nn.Conv2D(channels, 1)

    def hybrid_forward(self, F, x):  # noqa: N803
        return self.pointwise(self.depthwise(x))


PLAIN = (nn.Conv2D, nn.Conv2DTranspose, Pair)
OURS = (DOConv2D, DOConv2DTranspose, DepthwiseSeparableConv2D)


class Block(nn.HybridBlock):
    """Layers among others, in children of several kinds."""

    def __init__(self, conv, transposed, separable):
        super().__init__()
        with self.name_scope():
            self.stem = conv(8, 3, activation="relu")
            self.body = nn.HybridSequential()
            self.body.add(transposed(8, 4, 2, 1), nn.BatchNorm(), separable(8, 3, d_mul=2))
            self.head = nn.Dense(3)

    def hybrid_forward(self, F, x):  # noqa: N803
        return self.head(self.body(self.stem(x)))


def into(plain, net, path):
    """The plain network with the folded parameters of ours, through a file."""
    mx.nd.save(str(path / "plain.params"), folded_parameters(net))
    plain.load_parameters(str(path / "plain.params"))
    return plain


def assert_same(found, expected, tolerance=2e-6):
    found, expected = found.asnumpy(), expected.asnumpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("hybridized", [False, True])
def test_nested_blocks(hybridized, batch, trained, tmp_path):
    net = Block(*OURS)
    if hybridized:
        net.hybridize()
    x = batch()
    trained(net, x)
    plain = into(Block(*PLAIN), net, tmp_path)
    assert_same(plain(x), net(x))
    assert list(folded_parameters(net)) != list(net._collect_params_with_prefix())
    assert set(folded_parameters(net)) == set(plain._collect_params_with_prefix())


def test_a_layer_alone(kind, batch, trained, tmp_path):
    x = batch()
    layer = trained(kind(), x)
    folded = layer.fold()
    fresh = layer.fold()
    fresh.initialize(mx.init.One(), force_reinit=True)
    assert_same(into(fresh, layer, tmp_path)(x), folded(x), 0)


def test_a_shared_layer(batch, trained, tmp_path):
    def network(conv):
        shared = conv(4, 3, padding=1)
        net = nn.HybridSequential()
        net.add(shared, nn.Activation("relu"), shared, nn.Dense(2))
        return net

    x = batch()
    net = trained(network(DOConv2D), x)
    assert {"0.weight", "2.weight"} <= set(folded_parameters(net))
    assert_same(into(network(nn.Conv2D), net, tmp_path)(x), net(x))


def test_layers_that_share_parameters(batch, trained):
    x, net = batch(), nn.HybridSequential()
    first = DOConv2D(4, 3, in_channels=4)
    net.add(first, DOConv2D(4, 3, in_channels=4, params=first.params))
    parameters = folded_parameters(trained(net, x))
    assert np.array_equal(parameters["0.weight"].asnumpy(), parameters["1.weight"].asnumpy())


def test_a_network_without_layers_of_ours(batch, trained, tmp_path):
    x, net = batch(), Block(*PLAIN)
    trained(net, x)
    net.save_parameters(str(tmp_path / "net.params"))
    saved, found = mx.nd.load(str(tmp_path / "net.params")), folded_parameters(net)
    assert list(saved) == list(found)
    assert all(np.array_equal(saved[name].asnumpy(), found[name].asnumpy()) for name in saved)


def test_nothing_of_the_network_changes(batch, trained):
    x = batch()
    net = trained(Block(*OURS), x)
    before = {n: p.data().asnumpy().copy() for n, p in net.collect_params().items()}
    for array in folded_parameters(net).values():
        array[:] = 7
    assert all((p.data().asnumpy() == before[n]).all() for n, p in net.collect_params().items())


def test_several_contexts(batch, trained):
    contexts, x = [mx.cpu(1), mx.cpu(2)], batch()
    net = Block(*OURS)
    trained(net, x)
    expected = folded_parameters(net)
    net.collect_params().reset_ctx(contexts)
    found = folded_parameters(net)
    assert {array.context for array in found.values()} == {mx.cpu(0)}
    assert all(np.array_equal(found[n].asnumpy(), expected[n].asnumpy()) for n in expected)


def test_what_is_not_finite_is_refused(batch, trained):
    net = trained(Block(*OURS), batch())
    net.stem.depthwise_delta.data()[0] = math.nan
    with pytest.raises(DOConvError, match="weight must be finite to be folded"):
        folded_parameters(net)
    assert np.isnan(folded_parameters(net, check_finite=False)["stem.weight"].asnumpy()).any()


def test_a_layer_that_has_no_parameters_yet_is_refused():
    with pytest.raises(DOConvError, match="a layer is composed, folded or loaded after"):
        folded_parameters(Block(*OURS))


def test_an_average_of_checkpoints_is_that_of_their_kernels(batch, trained, tmp_path):
    """The mean of W and of D' is another kernel."""
    x, checkpoints = batch(), []
    net = trained(Block(*OURS), x)
    trainer = mx.gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.05})
    for _ in range(2):
        with autograd.record():
            loss = net(x).square().mean()
        loss.backward()
        trainer.step(1)
        mx.nd.waitall()
        checkpoints.append(folded_parameters(net))
        net.save_parameters(str(tmp_path / f"{len(checkpoints)}.params"))
    mean = {name: (checkpoints[0][name] + checkpoints[1][name]) / 2 for name in checkpoints[0]}
    mx.nd.save(str(tmp_path / "mean.params"), mean)
    plain = Block(*PLAIN)
    plain.load_parameters(str(tmp_path / "mean.params"))
    first, second = (mx.nd.load(str(tmp_path / f"{n}.params")) for n in (1, 2))
    mx.nd.save(str(tmp_path / "ours.params"), {n: (first[n] + second[n]) / 2 for n in first})
    net.load_parameters(str(tmp_path / "ours.params"))
    kernel, expected = net.stem.composed_weight(), mean["stem.weight"]
    assert np.array_equal(plain.stem.weight.data().asnumpy(), expected.asnumpy())
    assert abs(kernel - expected).max().asscalar() > 1e-4 * abs(expected).max().asscalar()
