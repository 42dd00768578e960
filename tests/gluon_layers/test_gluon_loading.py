"""A plain kernel sets D to the identity, whatever D' was before; a W without its D' is refused."""

import re

import do_conv.gluon  # noqa: F401 - before mxnet, which reads names that this module restores

# isort: split
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon
from mxnet.gluon import nn

from do_conv import DOConvError
from do_conv.gluon import (
    DOConv1D,
    DOConv1DTranspose,
    DOConv2D,
    DOConv2DTranspose,
    DOConv3D,
    convert,
    fold,
)

# Ours, the plain one, the spatial axes, and options.
LAYERS = {
    "1d": (DOConv1D, nn.Conv1D, 1, {}),
    "2d-groups": (DOConv2D, nn.Conv2D, 2, {"groups": 2}),
    "2d-depthwise": (DOConv2D, nn.Conv2D, 2, {"groups": 4}),
    "3d": (DOConv3D, nn.Conv3D, 3, {"use_bias": False}),
    "transposed-1d": (DOConv1DTranspose, nn.Conv1DTranspose, 1, {}),
    # MXNet's transposed layer with groups has to be told its channels.
    "transposed-2d": (
        DOConv2DTranspose,
        nn.Conv2DTranspose,
        2,
        {"groups": 2, "strides": 2, "in_channels": 4},
    ),
}
GRAPHS = [None, {}, {"static_alloc": True, "static_shape": True}]


def batch(axes=2):
    return mx.nd.random.normal(shape=(2, 4, *[7] * axes))


def network(conv, **block):
    """Two convolutions, the second of which has seen no channels of its input."""
    net = nn.HybridSequential(**block)
    with net.name_scope():
        net.add(conv(4, 3, padding=1), nn.BatchNorm(), conv(8, 3, groups=2))
    return net


def started(block, x):
    """A block with parameters; what it computes is finished."""
    block.initialize(mx.init.Xavier())
    block(x)
    mx.nd.waitall()
    return block


def deltas(block):
    return {
        name: parameter.data().asnumpy()
        for name, parameter in block.collect_params(".*depthwise_delta").items()
    }


def shaken(block):
    """The block with D' as training leaves them."""
    for parameter in block.collect_params(".*depthwise_delta").values():
        parameter.set_data(mx.nd.random.normal(0, 0.5, parameter.shape))
    assert all(value.any() for value in deltas(block).values())
    return block


def values(block):
    """The arrays of a block under the names of its structure."""
    mx.nd.waitall()
    return {name: p.data().copy() for name, p in block._collect_params_with_prefix().items()}


def flat(block):
    """The arrays of a block under the names of its parameters, without the block's prefix."""
    mx.nd.waitall()
    start = len(block.prefix)
    return {name[start:]: p.data().copy() for name, p in block.collect_params().items()}


def some(arrays, names):
    return {name: array for name, array in arrays.items() if re.search(names, name)}


def ordered(arrays, order):
    return dict(order(list(arrays.items())))


def by_name(items):
    return sorted(items, key=lambda item: item[0])


def by_structure(net, source, path, order=list, names=".", **options):
    mx.nd.save(path, ordered(some(values(source), names), order))
    net.load_parameters(path, allow_missing=True, **options)


def by_prefix(net, source, path, order=list, names=".", **options):
    mx.nd.save(path, ordered(some(flat(source), names), order))
    net.load_parameters(path, allow_missing=True, **options)


def by_dict_from_file(net, source, path, order=list, names=".", **options):
    mx.nd.save(path, ordered(some(flat(source), names), order))
    net.collect_params().load(path, allow_missing=True, restore_prefix=net.prefix, **options)


def by_dict(net, source, _, order=list, names=".", **options):
    found = ordered(some(flat(source), names), order)
    arrays = {f"arg:{name}": array for name, array in found.items()}
    net.collect_params().load_dict(arrays, None, True, restore_prefix=net.prefix, **options)


LOADERS = pytest.mark.parametrize("load", [by_structure, by_prefix, by_dict_from_file, by_dict])


def assert_same(found, expected):
    np.testing.assert_array_equal(found.asnumpy(), expected.asnumpy())


@pytest.mark.parametrize("name", LAYERS)
def test_a_trained_layer_becomes_the_plain_one(name, tmp_path):
    ours, kind, axes, options = LAYERS[name]
    x, path = batch(axes), str(tmp_path / "plain.params")
    plain, layer = started(kind(8, 3, **options), x), started(ours(8, 3, **options), x)
    plain.save_parameters(path)
    shaken(layer).load_parameters(path, allow_missing=True)
    assert_same(layer(x), plain(x))
    assert not layer.depthwise_delta.data().asnumpy().any()


@LOADERS
@pytest.mark.parametrize("graph", GRAPHS, ids=["eager", "graph", "static"])
def test_so_does_a_layer_in_a_network_however_it_is_loaded(load, graph, tmp_path):
    x = batch()
    plain = started(network(nn.Conv2D, prefix="net_"), x)
    net = shaken(started(network(DOConv2D, prefix="net_"), x))
    if graph is not None:
        for block in (plain, net):
            block.hybridize(**graph)
    before = net(x).asnumpy()
    load(net, plain, str(tmp_path / "plain.params"))
    expected = plain(x)
    assert abs(before - expected.asnumpy()).max() > 0.1
    assert_same(net(x), expected)
    assert not any(value.any() for value in deltas(net).values())


@LOADERS
@pytest.mark.parametrize("order", [list, reversed, by_name], ids=lambda order: order.__name__)
def test_a_file_of_ours_brings_its_own_in_any_order(load, order, tmp_path):
    x = batch()
    source, net = (shaken(started(network(DOConv2D, prefix="net_"), x)) for _ in range(2))
    expected = source(x)
    load(net, source, str(tmp_path / "ours.params"), order)
    assert_same(net(x), expected)
    for name, value in deltas(net).items():
        np.testing.assert_array_equal(value, deltas(source)[name])


def test_one_dictionary_that_loads_both_kinds_of_files_in_turn():
    x = batch()
    source, net = (shaken(started(network(DOConv2D, prefix="net_"), x)) for _ in range(2))
    ours = flat(source)
    turned = dict(reversed(ours.items()))
    plain = {name: array for name, array in ours.items() if "delta" not in name}
    parameters = net.collect_params()
    for arrays in (ours, plain, turned, plain, plain, turned, ours):
        parameters.load_dict(arrays, allow_missing=True, restore_prefix=net.prefix)
        loaded = [value.any() for value in deltas(net).values()]
        assert loaded == [arrays is not plain] * 2


@pytest.mark.parametrize("order", ["together", "deltas-first", "weights-first"])
@pytest.mark.parametrize("other", [DOConv2D, nn.Conv2D])
def test_layers_that_share_their_weight(other, order, tmp_path):
    """Gluon stores it under the names of both."""
    x, path = batch(), str(tmp_path / "shared.params")

    def tied():
        first = DOConv2D(4, 3, padding=1, in_channels=4)
        net = nn.HybridSequential()
        net.add(first, other(4, 3, padding=1, in_channels=4, params=first.params))
        return shaken(started(net, x))

    source, net = tied(), tied()
    arrays = values(source)
    first = {"deltas-first": "delta", "weights-first": "weight", "together": ""}[order]
    mx.nd.save(path, dict(sorted(arrays.items(), key=lambda item: first not in item[0])))
    net.load_parameters(path)
    assert_same(net(x), source(x))
    assert all(value.any() for value in deltas(net).values())
    without = {name: array for name, array in arrays.items() if "delta" not in name}
    mx.nd.save(path, without)
    net.load_parameters(path, allow_missing=True)
    assert not any(value.any() for value in deltas(net).values())


class Scaled(nn.Conv2D):
    """A convolution with a forward pass of its own."""

    def hybrid_forward(self, F, x, weight, bias=None):  # noqa: N803
        return super().hybrid_forward(F, x, weight * 2, bias)


@pytest.mark.parametrize("conv", [nn.Conv2D, Scaled])
def test_a_converted_network_and_never_the_one_it_was_made_from(conv, tmp_path):
    x, path = batch(), str(tmp_path / "plain.params")
    other = started(network(conv), x)
    other.save_parameters(path)
    model = shaken(convert(started(network(conv), x)))
    copy = convert(fold(model))
    kept = shaken(copy)(x).asnumpy()
    model.load_parameters(path, allow_missing=True)
    assert_same(model(x), other(x))
    np.testing.assert_array_equal(copy(x).asnumpy(), kept)


@pytest.mark.parametrize("state", ["new", "waiting", "started"])
def test_a_random_start_gives_way_whether_or_not_it_was_drawn(state, tmp_path):
    x, path = batch(), str(tmp_path / "plain.params")
    plain = started(nn.Conv2D(8, 3), x)
    plain.save_parameters(path)
    layer = DOConv2D(8, 3, depthwise_init="he")
    if state != "new":
        layer.initialize()
    if state == "started":
        layer(x)
    layer.load_parameters(path, allow_missing=True)
    assert_same(layer(x), plain(x))


def test_every_context_and_precision(tmp_path):
    contexts, path = [mx.cpu(0), mx.cpu(1)], str(tmp_path / "plain.params")
    x = batch().astype("float64")
    plain, layer = nn.Conv2D(8, 3, in_channels=4), DOConv2D(8, 3, in_channels=4)
    for block in (plain, layer):
        block.cast("float64")
        block.initialize(ctx=contexts)
    layer.depthwise_delta.set_data(mx.nd.ones((4, 9, 3, 3), dtype="float64"))
    plain.save_parameters(path)
    layer.load_parameters(path, ctx=contexts, allow_missing=True)
    assert layer.depthwise_delta.list_ctx() == contexts
    for ctx in contexts:
        assert not layer.depthwise_delta.data(ctx).asnumpy().any()
        assert_same(layer(x.as_in_context(ctx)), plain(x.as_in_context(ctx)))


def test_under_numpy_arrays(tmp_path):
    path = str(tmp_path / "plain.params")
    mx.npx.set_np()
    try:
        x = mx.np.random.normal(size=(2, 4, 7, 7))
        # In a network: of a layer alone, MXNet loads arrays of its other kind.
        plain, net = (started(network(kind), x) for kind in (nn.Conv2D, DOConv2D))
        net[0].depthwise_delta.set_data(mx.np.ones((4, 9, 3, 3)))
        plain.save_parameters(path)
        net.load_parameters(path, allow_missing=True)
        assert_same(net(x), plain(x))
    finally:
        mx.npx.reset_np()


def test_training_goes_on_in_the_same_arrays(tmp_path):
    x, path = batch(), str(tmp_path / "plain.params")
    plain, layer = (started(kind(8, 3), x) for kind in (nn.Conv2D, DOConv2D))
    plain.save_parameters(path)
    trainer = gluon.Trainer(layer.collect_params(), "sgd", {"learning_rate": 0.1})

    def step():
        with autograd.record():
            loss = layer(x).square().mean()
        loss.backward()
        trainer.step(1)
        return layer.depthwise_delta.data().asnumpy()

    assert step().any()
    layer.load_parameters(path, allow_missing=True)
    assert_same(layer(x), plain(x))
    assert step().any()


@LOADERS
def test_exception_a_file_that_does_not_fit_leaves_no_trace(load, tmp_path):
    x, path = batch(), str(tmp_path / "file.params")
    net = shaken(started(network(DOConv2D, prefix="net_"), x))
    kept = {name: set(vars(parameter)) for name, parameter in net.collect_params().items()}
    wide = started(network(lambda channels, _, **more: nn.Conv2D(channels, 5, **more)), x)
    with pytest.raises(AssertionError, match=r"\(4, 4, 3, 3\) vs saved \(4, 4, 5, 5\)"):
        load(net, wide, path)
    assert {name: set(vars(parameter)) for name, parameter in net.collect_params().items()} == kept
    plain = started(network(nn.Conv2D, prefix="net_"), x)
    load(net, plain, path)
    assert_same(net(x), plain(x))


def test_what_brings_no_weight_leaves_the_depthwise_kernel(tmp_path):
    x, path = batch(), str(tmp_path / "part.params")
    net = shaken(started(network(DOConv2D), x))
    before = deltas(net)
    mx.nd.save(path, {"0.bias": mx.nd.ones(4), "1.gamma": mx.nd.ones(4)})
    net.load_parameters(path, allow_missing=True)
    mx.nd.save(path, {"0.weight": mx.nd.ones((4, 4, 5, 5))})
    with pytest.raises(AssertionError, match="shape incompatible"):
        net.load_parameters(path, allow_missing=True)
    for name, value in deltas(net).items():
        np.testing.assert_array_equal(value, before[name])


def wide(*args, **options):
    return DOConv2D(*args, d_mul=12, **options)


@LOADERS
def test_exception_a_plain_network_takes_no_weight_of_ours(load, tmp_path):
    x = batch()
    source = shaken(started(network(DOConv2D, prefix="net_"), x))
    net = started(network(nn.Conv2D, prefix="net_"), x)
    before = net(x)
    with pytest.raises(DOConvError, match=r"(0\.|conv0_)weight' alone: the network has no '"):
        load(net, source, str(tmp_path / "ours.params"), ignore_extra=True)
    assert_same(net(x), before)
    # Other arrays of such a file, and the arrays of a folded one, are loaded as ever.
    bias = source[0].bias.data() + 1
    source[0].bias.set_data(bias)
    load(net, source, str(tmp_path / "part.params"), names="bias|gamma|delta", ignore_extra=True)
    assert_same(net[0].bias.data(), bias)
    load(net, fold(source), str(tmp_path / "folded.params"), ignore_extra=True)
    assert_same(net(x), source(x))


@LOADERS
def test_exception_a_weight_of_more_slots_without_its_delta(load, tmp_path):
    x = batch()
    source, net = (shaken(started(network(wide, prefix="net_"), x)) for _ in range(2))
    before = net(x)
    with pytest.raises(DOConvError, match=r"weight' alone: the checkpoint has no '.*depthwise_del"):
        load(net, source, str(tmp_path / "ours.params"), names="weight|bias")
    assert_same(net(x), before)


@pytest.mark.parametrize("name", LAYERS)
def test_exception_no_layer_takes_half_of_a_kernel(name, tmp_path):
    ours, kind, axes, options = LAYERS[name]
    x, path = batch(axes), str(tmp_path / "ours.params")
    layer, plain = started(ours(8, 3, **options), x), started(kind(8, 3, **options), x)
    layer.save_parameters(path)
    with pytest.raises(DOConvError, match="the network has no 'depthwise_delta'"):
        plain.load_parameters(path, ignore_extra=True)
    layer = started(ours(8, 3, d_mul=3**axes + 2, **options), x)
    mx.nd.save(path, {"weight": layer.weight.data()})
    with pytest.raises(DOConvError, match="the checkpoint has no 'depthwise_delta'"):
        layer.load_parameters(path, allow_missing=True)


def test_exception_a_file_that_gluon_cannot_read(tmp_path):
    with pytest.raises(mx.MXNetError, match=r"absent\.params"):
        network(nn.Conv2D).load_parameters(str(tmp_path / "absent.params"), ignore_extra=True)


def test_a_plain_network_is_loaded_as_ever(tmp_path):
    x, path = batch(), str(tmp_path / "part.params")
    net = started(network(nn.Conv2D), x)
    kept = net[2].weight.data().asnumpy()
    mx.nd.save(path, {"0.weight": mx.nd.ones((4, 4, 3, 3))})
    with pytest.raises(AssertionError, match="missing in file"):
        net.load_parameters(path)
    net.load_parameters(path, allow_missing=True)
    assert (net[0].weight.data() == 1).asnumpy().all()
    np.testing.assert_array_equal(net[2].weight.data().asnumpy(), kept)


@pytest.mark.parametrize("is_initialized", [True, False])
@pytest.mark.parametrize(("own", "stored"), [("float32", "float64"), ("float64", "float32")])
def test_a_plain_file_in_its_own_dtype(own, stored, is_initialized, tmp_path):
    plain, ours = network(nn.Conv2D), network(DOConv2D)
    for net, dtype in ((plain, stored), (ours, own)):
        net.cast(dtype)
    x = batch().astype(stored)
    expected = started(plain, x)(x)
    plain.save_parameters(str(tmp_path / "plain.params"))
    if is_initialized:
        started(ours, batch().astype(own))
    options = {"allow_missing": True, "cast_dtype": True, "dtype_source": "saved"}
    ours.load_parameters(str(tmp_path / "plain.params"), **options)
    assert {np.dtype(one.dtype) for one in ours.collect_params().values()} == {np.dtype(stored)}
    np.testing.assert_allclose(ours(x).asnumpy(), expected.asnumpy(), rtol=1e-5, atol=1e-5)
