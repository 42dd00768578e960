"""The layers under `mx.npx.set_np()`, where MXNet's arrays behave as NumPy's."""

import do_conv.gluon  # noqa: F401 - before mxnet, which reads names that this module restores

# isort: split
import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn

from do_conv.gluon import DOConv2D


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
