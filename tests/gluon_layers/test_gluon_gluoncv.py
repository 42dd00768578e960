"""Blocks of GluonCV built with our layers: its own arguments, by position too, reach them."""

import do_conv.gluon  # noqa: F401 - before mxnet, which reads names that this module restores

# isort: split
import importlib
import types
import warnings

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon
from mxnet.gluon import nn

from do_conv.gluon import DOConv2D, DOConv2DTranspose, folded_parameters
from do_conv.zoo import import_gluoncv

GRAPHS = [None, {}, {"static_alloc": True, "static_shape": True}]


@pytest.fixture(scope="module")
def zoo():
    """A function that imports a module of GluonCV's models."""
    if importlib.util.find_spec("gluoncv") is None:
        pytest.skip("GluonCV is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import_gluoncv()
    return lambda name: importlib.import_module(f"gluoncv.model_zoo.{name}")


def basic(zoo):
    return zoo("resnetv1b").BasicBlockV1b(4, norm_layer=nn.BatchNorm)


def bottleneck(zoo):
    layer = zoo("resnetv1b").BottleneckV1b
    return layer(4, strides=2, dilation=2, norm_layer=nn.BatchNorm, downsample=nn.Conv2D(16, 1, 2))


def inverted(zoo):
    return zoo("mobilenet").LinearBottleneck(4, 8, 3, 2)


def darknet(zoo):
    return zoo("yolo.darknet")._conv2d(6, 3, 1, 2)


def upsampling(zoo):
    """CenterNet's: each step a convolution and a transposed one."""
    model = zoo("center_net.deconv_resnet").DeconvResnet
    backbone = nn.HybridSequential()
    backbone.add(nn.MaxPool2D(64, 64), nn.BatchNorm())
    net = types.SimpleNamespace(
        base_network=backbone, _use_dcnv2=False, _norm_layer=nn.BatchNorm, _norm_kwargs={}
    )
    net._get_deconv_cfg = lambda size: model._get_deconv_cfg(net, size)
    return model._make_deconv_layer(net, (6, 4), (4, 3))


# Each block, the channels of its input, and the kinds of our layers in it.
BLOCKS = [
    pytest.param(basic, 4, {DOConv2D}, id="basic"),
    pytest.param(bottleneck, 4, {DOConv2D}, id="bottleneck"),
    pytest.param(inverted, 4, {DOConv2D}, id="inverted"),
    pytest.param(darknet, 4, {DOConv2D}, id="darknet"),
    pytest.param(upsampling, 3, {DOConv2D, DOConv2DTranspose}, id="upsampling"),
]


@pytest.fixture
def patched(monkeypatch):
    """A function that makes a block with our layers in the place of the plain ones."""

    def make(builder, zoo):
        with monkeypatch.context() as patch:
            patch.setattr(nn, "Conv2D", DOConv2D)
            patch.setattr(nn, "Conv2DTranspose", DOConv2DTranspose)
            return builder(zoo)

    return make


def kinds(block):
    found = set()
    block.apply(lambda child: found.add(type(child)))
    return found & {DOConv2D, DOConv2DTranspose, nn.Conv2D, nn.Conv2DTranspose}


def assert_equal(found, expected):
    np.testing.assert_array_equal(found.asnumpy(), expected.asnumpy())


@pytest.mark.parametrize("graph", GRAPHS, ids=["eager", "graph", "static"])
@pytest.mark.parametrize(("builder", "channels", "ours"), BLOCKS)
def test_a_block_of_our_layers(builder, channels, ours, graph, zoo, patched, tmp_path):
    x = mx.nd.random.normal(shape=(2, channels, 8, 8))
    plain, block, file = builder(zoo), patched(builder, zoo), str(tmp_path / "plain.params")
    assert kinds(block) == ours
    plain.initialize(mx.init.Xavier())
    plain(x)
    mx.nd.waitall()
    plain.save_parameters(file)
    block.initialize()
    block.load_parameters(file, allow_missing=True)
    if graph is not None:
        plain.hybridize(**graph)
        block.hybridize(**graph)
    assert_equal(block(x), plain(x))

    trainer = gluon.Trainer(block.collect_params(), "sgd", {"learning_rate": 0.01})
    for _ in range(2):
        with autograd.record():
            loss = (block(x) - 1).square().mean()
        loss.backward()
        trainer.step(1)
    mx.nd.waitall()
    deltas = block.collect_params(".*depthwise_delta").values()
    assert all(delta.data().asnumpy().any() for delta in deltas)

    mx.nd.save(file, folded_parameters(block))
    folded = builder(zoo)
    folded.load_parameters(file)
    assert kinds(folded) == {kind._plain for kind in ours}
    expected = block(x).asnumpy()
    tolerance = 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(folded(x).asnumpy(), expected, rtol=0, atol=tolerance)
