"""The layers under `mx.npx.set_np()`, where MXNet's arrays behave as NumPy's."""

import do_conv.gluon  # noqa: F401 - before mxnet, which reads names that this module restores

# isort: split
import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn

from do_conv.gluon import DepthwiseSeparableConv2D, DOConv2D, folded_parameters


@pytest.fixture(autouse=True)
def np_arrays():
    mx.npx.set_np()
    yield
    mx.npx.reset_np()


@pytest.mark.parametrize("composition", ["kernel", "feature"])
def test_a_layer_takes_and_gives_np_arrays(composition):
    x = mx.np.random.normal(size=(2, 4, 8, 8))
    layer = DOConv2D(
        8, 3, groups=2, d_mul=11, depthwise_init="he", composition=composition, activation="relu"
    )
    layer.initialize()
    imperative = layer(x)
    layer.hybridize()
    folded = layer.fold()(x)
    mx.nd.waitall()
    assert type(imperative) is mx.np.ndarray
    assert type(layer.composed_weight()) is mx.np.ndarray
    np.testing.assert_array_equal(layer(x).asnumpy(), imperative.asnumpy())
    np.testing.assert_allclose(folded.asnumpy(), imperative.asnumpy(), rtol=0, atol=1e-6)


def test_every_layer_takes_and_gives_np_arrays(kind, composition, tmp_path):
    x = mx.np.random.normal(size=(2, 4, 7, 7))
    layer = kind(composition=composition, in_channels=4)
    layer.initialize()
    with mx.autograd.record():
        imperative = layer(x)
        loss = mx.np.square(imperative).sum()
    loss.backward()
    assert all(p.grad().asnumpy().any() for p in layer.collect_params().values())
    folded = layer.fold()(x)
    assert type(imperative) is type(layer.composed_weight()) is mx.np.ndarray
    np.testing.assert_allclose(folded.asnumpy(), imperative.asnumpy(), rtol=0, atol=1e-5)
    layer.hybridize()
    np.testing.assert_allclose(layer(x).asnumpy(), imperative.asnumpy(), rtol=0, atol=1e-5)
    # In blocks: Gluon itself cannot load such a file into a layer alone.
    net, plain = nn.HybridSequential(), nn.HybridSequential()
    net.add(layer)
    plain.add(layer.fold())
    mx.npx.save(str(tmp_path / "plain.params"), folded_parameters(net))
    plain.load_parameters(str(tmp_path / "plain.params"))
    np.testing.assert_array_equal(plain(x).asnumpy(), folded.asnumpy())


def test_a_pair_of_np_arrays():
    depthwise = nn.Conv2D(8, 3, groups=4, use_bias=False, in_channels=4)
    pointwise = nn.Conv2D(6, 1, in_channels=8)
    for layer in (depthwise, pointwise):
        layer.initialize()
    x = mx.np.random.normal(size=(2, 4, 7, 7))
    expected = pointwise(depthwise(x)).asnumpy()
    found = DepthwiseSeparableConv2D.from_pair(depthwise, pointwise)(x).asnumpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_a_hybridized_network_finds_its_channels_and_trains():
    net = nn.HybridSequential()
    net.add(DOConv2D(8, 3, d_mul=11, depthwise_init="he"), nn.BatchNorm(), DOConv2D(4, 3))
    net.initialize()
    net.hybridize()
    with mx.autograd.record():
        loss = mx.np.square(net(mx.np.ones((2, 3, 8, 8)))).mean()
    loss.backward()
    gradients = [block.depthwise_delta.grad().asnumpy() for block in (net[0], net[2])]
    assert [gradient.shape for gradient in gradients] == [(3, 11, 3, 3), (8, 9, 3, 3)]
