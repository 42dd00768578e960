"""Saving and loading a Gluon layer: keys, plain files, and what a misfit says."""

import do_conv.gluon  # noqa: F401 - before mxnet, which reads names that this module restores

# isort: split
import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn

from do_conv import DOConvError
from do_conv.gluon import DOConv2D, DOConv2DTranspose


def batch():
    return mx.nd.random.normal(shape=(2, 4, 7, 7))


def trained(layer, x):
    """The layer after its first input, with nothing at zero."""
    layer.initialize()
    layer(x)
    for parameter in layer.collect_params().values():
        parameter.set_data(mx.nd.random.normal(shape=parameter.shape))
    return layer


@pytest.mark.parametrize("in_channels", [4, 0])
def test_saved_parameters_of_one_layer(in_channels, tmp_path):
    x, path = batch(), str(tmp_path / "layer.params")
    layer = trained(DOConv2D(8, 3, d_mul=11), x)
    layer.save_parameters(path)
    assert sorted(mx.nd.load(path)) == ["bias", "depthwise_delta", "weight"]
    fresh = DOConv2D(8, 3, d_mul=11, in_channels=in_channels)
    fresh.load_parameters(path)
    assert np.array_equal(fresh(x).asnumpy(), layer(x).asnumpy())


@pytest.mark.parametrize("in_channels", [4, 0])
def test_a_plain_file_is_the_identity(in_channels, tmp_path):
    x, path = batch(), str(tmp_path / "layer.params")
    plain = nn.Conv2D(8, 3, groups=2)
    plain.initialize(mx.init.Xavier())
    expected = plain(x)
    # A convolution that still runs reorders the weight that is to be saved.
    mx.nd.waitall()
    plain.save_parameters(path)
    layer = DOConv2D(8, 3, groups=2, in_channels=in_channels)
    layer.initialize()
    with pytest.raises(AssertionError, match="depthwise_delta"):
        layer.load_parameters(path)
    layer.load_parameters(path, allow_missing=True)
    assert np.array_equal(layer(x).asnumpy(), expected.asnumpy())


@pytest.mark.parametrize("graph", [{}, {"static_alloc": True, "static_shape": True}])
@pytest.mark.parametrize("conv", [(nn.Conv2D, DOConv2D), (nn.Conv2DTranspose, DOConv2DTranspose)])
def test_a_plain_file_for_a_hybridized_network_that_has_seen_no_input(conv, graph, tmp_path):
    x, path, nets = batch(), str(tmp_path / "net.params"), []
    for layer in conv:
        net = nn.HybridSequential()
        net.add(layer(4, 3), nn.BatchNorm(), layer(8, 3, 2))
        net.initialize(mx.init.Xavier())
        net.hybridize(**graph)
        nets.append(net)
    plain, ours = nets
    expected = plain(x)
    mx.nd.waitall()
    plain.save_parameters(path)
    ours.load_parameters(path, allow_missing=True)
    assert np.array_equal(ours(x).asnumpy(), expected.asnumpy())


@pytest.mark.parametrize(
    ("options", "shapes"),
    [
        ({"kernel_size": 5}, r"weight.*\(8, 4, 5, 5\).*\(8, 4, 3, 3\)"),
        ({"kernel_size": 3, "groups": 2}, r"weight.*\(8, 2, 3, 3\).*\(8, 4, 3, 3\)"),
        ({"kernel_size": 3, "d_mul": 11}, r"weight.*\(8, 4, 11\).*\(8, 4, 3, 3\)"),
    ],
)
def test_a_misfit_names_the_key_and_both_shapes(options, shapes, tmp_path):
    path = str(tmp_path / "layer.params")
    trained(DOConv2D(8, 3), batch()).save_parameters(path)
    layer = DOConv2D(8, **options, in_channels=4)
    layer.initialize()
    with pytest.raises(AssertionError, match=shapes):
        layer.load_parameters(path)


def test_exception_a_file_of_other_groups_for_a_layer_that_has_seen_no_input(tmp_path):
    path = str(tmp_path / "two.params")
    source = DOConv2D(8, 3, groups=2, in_channels=4)
    source.initialize()
    source.save_parameters(path)
    target = DOConv2D(8, 3)
    target.load_parameters(path)
    rule = r"depthwise_delta' must have shape \(2, 9, 3, 3\); received shape \(4, 9, 3, 3\); build"
    with pytest.raises(DOConvError, match=rule):
        target(mx.nd.ones((1, 2, 5, 5)))
