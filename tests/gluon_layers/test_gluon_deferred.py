"""Gluon layers that see their input channels late: alone, in networks, trained, saved, exported."""

import do_conv.gluon  # noqa: F401 - before mxnet, which reads names that this module restores

# isort: split
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon
from mxnet.gluon import nn

from do_conv import DOConvError
from do_conv.gluon import DOConv1D, DOConv2D, DOConv3D

EXACT = {"float32": 1e-6, "float64": 1e-14}
OPTIONS = [
    pytest.param({}, id="default"),
    pytest.param({"groups": 2}, id="groups"),
    pytest.param({"d_mul": 11}, id="more"),
    pytest.param({"groups": 2, "d_mul": 18}, id="groups-twice"),
    pytest.param({"groups": 4, "d_mul": 11}, id="depthwise-more"),
]
DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])
IMPORTS = pytest.mark.filterwarnings("ignore:.*Cannot decide type for the following arguments")


@pytest.fixture(autouse=True)
def _seed():
    mx.random.seed(3)


def network(dtype="float32", *, known=False, hybridized=True, **options):
    """Two layers of ours in a network; `known` names every layer's input channels."""
    channels = (4, 8) if known else (0, 0)
    net = nn.HybridSequential(prefix="net_")
    with net.name_scope():
        net.add(DOConv2D(8, 3, padding=1, in_channels=channels[0], **options))
        net.add(nn.BatchNorm(), nn.Activation("relu"))
        net.add(DOConv2D(12, 3, strides=2, use_bias=False, in_channels=channels[1], **options))
        net.add(nn.Dense(3))
    net.cast(dtype)
    if hybridized:
        net.hybridize()
    return net


def batch(dtype="float32"):
    return mx.nd.random.normal(shape=(4, 4, 7, 7), dtype=dtype)


def started(net, x):
    """The network after its first input, with a D' that is not zero."""
    net.initialize(mx.init.Xavier())
    net(x)
    # MXNet convolves later, and a float32 convolution reorders its weight while it runs: reading
    # the weight at that moment fails.
    mx.nd.waitall()
    for name, parameter in net.collect_params().items():
        if name.endswith("depthwise_delta"):
            parameter.set_data(mx.nd.random.normal(0, 0.3, parameter.shape, dtype=parameter.dtype))
    return net


def copied(net, path, **options):
    """A network of known sizes, not hybridized, with the parameters of `net`."""
    net.save_parameters(str(path / "copy.params"))
    reference = network(known=True, hybridized=False, **options)
    reference.load_parameters(str(path / "copy.params"))
    return reference


def assert_close(found, expected, tolerance):
    """Within `tolerance` of the largest number."""
    found, expected = found.asnumpy(), expected.asnumpy()
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def train(net, x, steps=1):
    """Steps of a trainer, and the losses before each."""
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1, "momentum": 0.9})
    label, losses = mx.nd.array([0, 1, 2, 0], dtype=x.dtype), []
    for _ in range(steps):
        with autograd.record():
            loss = gluon.loss.SoftmaxCrossEntropyLoss()(net(x), label)
        loss.backward()
        trainer.step(len(x))
        losses.append(loss.mean().asscalar())
    mx.nd.waitall()
    return losses


@DTYPES
@pytest.mark.parametrize("hybridized", [False, True])
@pytest.mark.parametrize("composition", ["kernel", "feature"])
@pytest.mark.parametrize("options", OPTIONS)
def test_alone(options, composition, hybridized, dtype):
    layer, x = DOConv2D(8, 3, composition=composition, prefix="one_", **options), batch(dtype)
    layer.cast(dtype)
    if hybridized:
        layer.hybridize()
    started(layer, x)
    assert layer.spec.in_channels == 4
    known = DOConv2D(8, 3, in_channels=4, prefix="one_", **options)
    known.cast(dtype)
    known.initialize()
    for name, parameter in known.collect_params().items():
        parameter.set_data(layer.collect_params()[name].data())
    assert_close(layer(x), known(x), 10 * EXACT[dtype])


@DTYPES
@pytest.mark.parametrize("hybridized", [False, True])
@pytest.mark.parametrize("options", OPTIONS)
def test_in_a_network(options, hybridized, dtype, tmp_path):
    x = batch(dtype)
    net = started(network(dtype, hybridized=hybridized, **options), x)
    assert_close(net(x), copied(net, tmp_path, dtype=dtype, **options)(x), EXACT[dtype])


@pytest.mark.parametrize("d_mul", [None, 9])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("layer", "size"), [(DOConv1D, (9,)), (DOConv3D, (4, 5, 4))])
def test_other_ranks_in_a_hybridized_network(layer, size, groups, d_mul):
    net = nn.HybridSequential()
    net.add(layer(6, 2, groups=groups, d_mul=d_mul), nn.Flatten())
    net.hybridize()
    x = mx.nd.random.normal(shape=(2, 4, *size))
    started(net, x)
    assert_close(net(x), net[0].fold()(x).flatten(), EXACT["float32"])


def test_pointwise_in_a_hybridized_network():
    net = nn.HybridSequential()
    net.add(DOConv2D(6, 1, groups=2, d_mul=7), nn.Flatten())
    net.hybridize()
    x = batch()
    started(net, x)
    assert net[0].weight.shape == (6, 2, 1, 1)
    assert_close(net(x), net[0].fold()(x).flatten(), EXACT["float32"])


@DTYPES
@pytest.mark.parametrize("options", OPTIONS)
def test_a_training_step(options, dtype, tmp_path):
    x = batch(dtype)
    net = started(network(dtype, **options), x)
    reference = copied(net, tmp_path, dtype=dtype, **options)
    before = {name: p.data().asnumpy().copy() for name, p in net.collect_params().items()}
    train(net, x)
    train(reference, x)
    after = net.collect_params()
    for name, parameter in reference.collect_params().items():
        # A bias before a batch normalisation has no gradient but rounding.
        if not name.endswith("conv0_bias"):
            assert not np.array_equal(after[name].data().asnumpy(), before[name]), name
        assert_close(after[name].data(), parameter.data(), 20 * EXACT[dtype])


@pytest.mark.parametrize("options", OPTIONS)
def test_training_learns_from_an_identity_start(options):
    x, net = batch(), network(**options)
    net.initialize(mx.init.Xavier())
    losses = train(net, x, steps=20)
    assert losses[-1] < 0.2 * losses[0]
    assert net[0].depthwise_delta.data().asnumpy().any()


@IMPORTS
@DTYPES
@pytest.mark.parametrize("options", OPTIONS)
def test_export_and_import(options, dtype, tmp_path):
    x = batch(dtype)
    net = started(network(dtype, **options), x)
    train(net, x)
    expected = net(x)
    mx.nd.waitall()
    path = str(tmp_path / "net")
    net.export(path)
    block = gluon.SymbolBlock.imports(f"{path}-symbol.json", ["data"], f"{path}-0000.params")
    assert_close(block(x), expected, EXACT[dtype])


@DTYPES
@pytest.mark.parametrize("hybridized", [False, True])
@pytest.mark.parametrize("options", OPTIONS)
def test_saved_parameters_in_a_fresh_network(options, hybridized, dtype, tmp_path):
    x = batch(dtype)
    net = started(network(dtype, **options), x)
    path = str(tmp_path / "net.params")
    net.save_parameters(path)
    fresh = network(dtype, hybridized=hybridized, **options)
    fresh.load_parameters(path)
    assert fresh[3].spec.in_channels == 8
    assert_close(fresh(x), net(x), EXACT[dtype])


def test_feature_composition_in_a_graph_needs_the_channels():
    x, net = batch(), network(composition="feature")
    net.initialize()
    pattern = r"must know the input's channels.*; received .*in_channels=0; give in_channels"
    with pytest.raises(DOConvError, match=pattern):
        net(x)


@pytest.mark.parametrize("way", ["in_channels given", "run once before"])
@pytest.mark.parametrize("options", OPTIONS)
def test_feature_composition_in_a_graph_that_knows_the_channels(options, way, tmp_path):
    x, known = batch("float64"), way == "in_channels given"
    net = network("float64", known=known, hybridized=known, composition="feature", **options)
    started(net, x)
    net.hybridize()
    reference = copied(net, tmp_path, dtype="float64", composition="kernel", **options)
    assert_close(net(x), reference(x), 1e-13)


def test_channels_that_groups_do_not_divide():
    layer = DOConv2D(8, 3, groups=4)
    layer.initialize()
    with pytest.raises(DOConvError, match=r"groups must divide the input channels; .*6 input"):
        layer(mx.nd.ones((1, 6, 5, 5)))
