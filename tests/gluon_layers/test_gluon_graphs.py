"""Every Gluon layer in graphs and files: hybridized, exported, saved, with channels seen late."""

import do_conv.gluon  # noqa: F401 - before mxnet, which reads names that this module restores

# isort: split
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon
from mxnet.gluon import nn

from do_conv import DOConvError
from do_conv.gluon import (
    DepthwiseSeparableConv1D,
    DepthwiseSeparableConv3D,
    DOConv1DTranspose,
    DOConv2DTranspose,
    DOConv3DTranspose,
)

EXACT = {"float32": 2e-6, "float64": 1e-14}
GRAPHS = [
    pytest.param({}, id="hybridized"),
    pytest.param({"static_alloc": True, "static_shape": True}, id="static"),
]


def assert_close(found, expected, tolerance):
    """Within `tolerance` of the largest number."""
    found, expected = found.asnumpy(), expected.asnumpy()
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def network(layer):
    """The layer in a network, with layers before and after it that depend on its channels."""
    net = nn.HybridSequential(prefix="net_")
    with net.name_scope():
        net.add(nn.Conv2D(4, 1), layer, nn.BatchNorm(), nn.Flatten(), nn.Dense(3))
    return net


def results(block, x):
    """The output of a training pass, and every gradient."""
    x.attach_grad()
    block.collect_params().zero_grad()
    with autograd.record():
        out = block(x)
        loss = out.square().sum()
    loss.backward()
    mx.nd.waitall()
    parameters = block.collect_params().values()
    return [out, x.grad.copy(), *(p.grad().copy() for p in parameters if p.grad_req != "null")]


@pytest.mark.parametrize("graph", GRAPHS)
def test_a_graph_gives_what_the_layer_gives(graph, kind, composition, dtype, batch, trained):
    x = batch(dtype)
    layer = trained(kind(composition=composition, activation="tanh"), x)
    expected = results(layer, x)
    layer.hybridize(**graph)
    for _ in range(2):
        for found, wanted in zip(results(layer, x), expected, strict=True):
            assert wanted.asnumpy().any()
            assert_close(found, wanted, 5 * EXACT[dtype])
    assert_close(layer(x), expected[0], EXACT[dtype])
    before = layer(x).asnumpy()
    layer.weight.set_data(-layer.weight.data())
    assert not np.array_equal(layer(x).asnumpy(), before)


@pytest.mark.parametrize("graph", GRAPHS)
def test_channels_are_found_in_a_graph_of_a_network(graph, kind, dtype, batch, trained):
    x, net = batch(dtype), network(kind())
    net.hybridize(**graph)
    trained(net, x)
    assert net[1].spec.is_known
    found, (out, *_) = net(x), results(net, x)
    assert all(p.grad().asnumpy().any() for p in (net[1].weight, net[4].weight))
    net.hybridize(active=False)
    assert_close(results(net, x)[0], out, 10 * EXACT[dtype])
    # The batch normalisation has moved its means since.
    expected = net(x)
    net.hybridize(**graph)
    assert_close(net(x), expected, EXACT[dtype])
    assert not np.array_equal(found.asnumpy(), expected.asnumpy())


@pytest.mark.parametrize("hybridized", [False, True])
def test_channels_are_found_by_the_layer_alone(hybridized, kind, composition, batch, trained):
    x, layer, known = batch(), kind(composition=composition), kind(in_channels=4)
    if hybridized:
        layer.hybridize()
    trained(layer, x)
    assert layer.spec == known.spec
    assert {n: p.shape for n, p in layer._reg_params.items()} == {
        n: p.shape for n, p in known._reg_params.items()
    }
    assert_close(layer(x), results(layer, x)[0], EXACT["float32"])


@pytest.mark.parametrize(
    ("conv", "size"),
    [
        (DOConv1DTranspose, (9,)),
        (DOConv3DTranspose, (4, 5, 4)),
        (DepthwiseSeparableConv1D, (9,)),
        (DepthwiseSeparableConv3D, (4, 5, 4)),
    ],
)
@pytest.mark.parametrize("d_mul", [8, 9])
@pytest.mark.parametrize("groups", [1, 2])
def test_other_ranks_in_a_graph_of_a_network(conv, size, groups, d_mul, trained):
    net = nn.HybridSequential()
    net.add(conv(6, 2, groups=groups, d_mul=d_mul), nn.Flatten())
    net.hybridize()
    x = mx.nd.random.normal(shape=(2, 4, *size))
    trained(net, x)
    assert all(array.asnumpy().any() for array in results(net, x))
    assert_close(net(x), net[0].fold()(x).flatten(), EXACT["float32"])


def test_feature_composition_of_a_transposed_layer_needs_no_channels(batch, trained):
    """Its groups are those of its output channels."""
    x, net = batch(), network(DOConv2DTranspose(6, 3, groups=2, d_mul=11, composition="feature"))
    net.hybridize()
    trained(net, x)
    found = net(x)
    net[1].composition = "kernel"
    net.hybridize()
    assert_close(found, net(x), 1e-5)


def test_feature_composition_of_a_separable_layer_needs_the_channels(kind, batch):
    net = network(kind(composition="feature"))
    net.initialize()
    net.hybridize()
    if isinstance(net[1], DOConv2DTranspose):
        net(batch())
        return
    with pytest.raises(DOConvError, match="must know the input's channels"):
        net(batch())


def test_export_and_import(kind, dtype, batch, trained, tmp_path):
    x, net = batch(dtype), network(kind())
    net.hybridize()
    expected = trained(net, x)(x)
    mx.nd.waitall()
    path = str(tmp_path / "net")
    net.export(path)
    block = gluon.SymbolBlock.imports(f"{path}-symbol.json", ["data"], f"{path}-0000.params")
    assert_close(block(x), expected, EXACT[dtype])


@pytest.mark.parametrize("in_channels", [4, 0])
def test_save_and_load(in_channels, kind, composition, dtype, batch, trained, tmp_path):
    x, path = batch(dtype), str(tmp_path / "net.params")
    net = trained(network(kind(composition=composition)), x)
    net.save_parameters(path)
    fresh = network(kind(composition=composition, in_channels=in_channels))
    fresh.cast(dtype)
    fresh.load_parameters(path)
    assert np.array_equal(fresh(x).asnumpy(), net(x).asnumpy())


def test_prefix_and_shared_parameters(kind, batch, trained):
    x, layer = batch(), kind(prefix="stem_")
    trained(layer, x)
    assert {name.split("_")[0] for name in layer.collect_params()} == {"stem"}
    assert layer.name == "stem"
    other = kind(params=layer.collect_params())
    assert other.weight is layer.weight
    assert np.array_equal(other(x).asnumpy(), layer(x).asnumpy())


def test_cast_after_the_start(kind, composition, batch, trained):
    x = batch()
    layer = trained(kind(composition=composition), x)
    expected = layer(x)
    layer.cast("float64")
    found = layer(x.astype("float64"))
    assert found.dtype == layer.composed_weight().dtype == np.float64
    np.testing.assert_allclose(found.asnumpy(), expected.asnumpy(), rtol=0, atol=1e-5)


def test_activation(kind, composition, batch, trained):
    x = batch()
    layer = trained(kind(composition=composition, activation="relu"), x)
    linear = kind(composition=composition, params=layer.params)
    assert (linear(x) < 0).asnumpy().any()
    assert np.array_equal(layer(x).asnumpy(), linear(x).relu().asnumpy())
