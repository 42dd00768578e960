"""Converting whole Gluon networks: what changes, and all that does not."""

import do_conv.gluon  # noqa: F401 - before mxnet, which reads names that this module restores

# isort: split
import mxnet as mx
import pytest
from mxnet import autograd, gluon
from mxnet.gluon import nn

from do_conv import DOConvError
from do_conv import gluon as do_gluon
from do_conv.gluon import (
    DOConv2D,
    DOConv2DTranspose,
    convert,
    fold,
    folded_parameters,
    plan,
    verify,
)

STATIC = {"static_alloc": True, "static_shape": True}


def values(model):
    mx.nd.waitall()
    return {n: p.data().asnumpy().tolist() for n, p in model.collect_params().items()}


@pytest.mark.parametrize("graph", [None, {}, STATIC], ids=["eager", "graph", "static"])
def test_the_outputs_are_the_same_bits_and_the_model_is_a_new_one(
    network, x, same, described, graph
):
    if graph is not None:
        network.hybridize(**graph)
    before, made_of, state = network(x), described(network), values(network)
    converted = convert(network)
    assert same(converted(x), before)
    assert (converted.first._active, converted._flags) == (graph is not None, network._flags)
    for parameter in converted.collect_params().values():
        parameter.set_data(mx.nd.zeros(parameter.shape))
    assert described(network) == made_of
    assert values(network) == state
    assert same(network(x), before)


def test_only_convolutions_with_more_than_one_position_change(network):
    net = convert(network)
    kinds = [type(layer) for layer in (net.first, *net.body, net.twice, net.tied, net.up, net.norm)]
    assert kinds == [
        DOConv2D, DOConv2D, nn.Conv2D, DOConv2D, DOConv2D, DOConv2DTranspose, nn.BatchNorm,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "make",
    [
        lambda **given: nn.Conv1D(4, 3, activation="relu", **given),
        lambda **given: nn.Conv2D(4, 3, 2, groups=2, **given),
        lambda **given: nn.Conv3D(4, 3, dilation=2, **given),
        lambda **given: nn.Conv1DTranspose(4, 3, 2, 1, 1, **given),
        lambda **given: nn.Conv2DTranspose(4, 3, **given),
        lambda **given: nn.Conv3DTranspose(4, 2, **given),
    ],
)
@pytest.mark.parametrize("in_channels", [0, 2])
def test_a_bare_layer(make, in_channels, same, described):
    layer = make(in_channels=in_channels, prefix="layer_")
    layer.initialize()
    converted = convert(layer)
    assert type(converted) is getattr(do_gluon, f"DO{type(layer).__name__}")
    x = mx.nd.random.normal(shape=(2, 2, *[6] * len(layer._kwargs["kernel"])))
    mx.random.seed(1)
    found = converted(x)
    mx.random.seed(1)
    assert same(found, layer(x))
    assert described(fold(converted)) == described(layer)


def test_names_fit_files_of_the_plain_network(network, x, same, tmp_path):
    file, converted = str(tmp_path / "plain.params"), convert(network)
    network.save_parameters(file)
    assert set(network.collect_params()) < set(converted.collect_params())
    assert converted.up.depthwise_delta.name == "net_conv3_depthwise_delta"
    for parameter in converted.collect_params("(?!.*delta)").values():
        parameter.set_data(mx.nd.random.normal(shape=parameter.shape))
    converted.load_parameters(file, allow_missing=True)
    assert same(converted(x), network(x))


def test_shared_blocks_and_weights_stay_so(network, x, trained, same):
    net = convert(network)
    assert net.twice is net.again
    assert net.twice.weight is net.tied.weight
    assert net.twice.depthwise_delta is net.tied.depthwise_delta
    trained(net)
    folded = fold(net)
    assert folded.twice is folded.again
    assert folded.twice.weight is folded.tied.weight
    assert same(folded(x), net(x))


def test_a_weight_that_something_else_reads_is_left(network, x):
    partly = convert(network, where=lambda name, _: name != "tied")
    assert type(partly.twice) is type(partly.tied) is nn.Conv2D
    graph = gluon.SymbolBlock(
        network.first(mx.sym.var("data")), mx.sym.var("data"), params=network.first.params
    )
    both = nn.HybridSequential()
    both.add(graph, nn.Conv2D(3, 3, in_channels=6), network.first)
    both[1].initialize()
    assert [type(layer) for layer in convert(both)][1:] == [DOConv2D, nn.Conv2D]
    assert convert(both)(x).shape == (2, 6, 6, 6)


@pytest.mark.parametrize("initialized", [True, False])
def test_a_network_that_has_seen_no_input(fresh, initialized, x, same):
    network = fresh(initialized)
    network.hybridize()
    converted, outputs = convert(network), []
    assert converted.first.spec.in_channels is None
    for net in (network, converted):
        mx.random.seed(1)
        if not initialized:
            net.initialize(mx.init.Xavier())
        outputs.append(net(x))
    assert same(*outputs)
    assert converted.first.depthwise_delta.shape == (3, 9, 3, 3)


def test_dtype_contexts_and_how_parameters_are_trained(network):
    contexts = [mx.cpu(0), mx.cpu(1)]
    network.cast("float64")
    network.collect_params().reset_ctx(contexts)
    for name, value in (("grad_req", "null"), ("lr_mult", 0.5), ("wd_mult", 0.25)):
        setattr(network.first.weight, name, value)
    network.up.weight.grad_req = "add"
    net = convert(network)
    for parameter in (net.first.weight, net.first.depthwise_delta):
        assert (parameter.grad_req, parameter.lr_mult, parameter.wd_mult) == ("null", 0.5, 0.25)
    assert net.up.weight.grad_req == net.up.depthwise_delta.grad_req == "add"
    assert net.twice.depthwise_delta.grad_req == "write"
    for parameter in net.collect_params().values():
        assert parameter.list_ctx() == contexts
        assert all(str(array.dtype) == "<class 'numpy.float64'>" for array in parameter.list_data())


def test_hooks_stay_and_a_trainer_keeps_to_the_old_network(network, x):
    seen = []
    network.first.register_forward_hook(lambda *_: seen.append("forward"))
    trainer = gluon.Trainer(network.collect_params(), "sgd", {"learning_rate": 0.1})
    net = convert(network)
    fold(net)(x)
    assert seen == ["forward"]
    assert network.first.weight._trainer is trainer
    assert net.first.weight._trainer is None
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1})
    with autograd.record():
        loss = net(x).square().mean()
    loss.backward()
    trainer.step(1)
    mx.nd.waitall()
    assert all(p.data().asnumpy().any() for p in net.collect_params(".*delta").values())


@pytest.mark.parametrize("d_mul", [None, 18, lambda spec: spec.area + 2])
@pytest.mark.parametrize("seen", [True, False])
def test_more_slots(x, same, d_mul, seen):
    model = nn.HybridSequential()
    model.add(nn.Conv2D(4, 3), nn.Conv2DTranspose(4, 3, in_channels=4, groups=2))
    model.initialize()
    if seen:
        model(x)
    converted = convert(model, d_mul=d_mul)
    found = converted(x)
    assert same(found, model(x)) or not seen
    slots = {None: 9, 18: 18}.get(d_mul, 11)
    assert converted[0].spec.d_mul == converted[0].depthwise_delta.shape[1] == slots
    # Slots that neither W nor D' moves at first would never train.
    with autograd.record():
        loss = converted(x).square().mean()
    loss.backward()
    moved = converted[0].depthwise_delta.grad().asnumpy().any(axis=(0, 2, 3))
    assert moved.sum() >= (slots if slots % 9 else 9)


@pytest.mark.parametrize("d_mul", [18, 11])
def test_more_slots_keep_double_precision(same, d_mul):
    layer = nn.Conv2D(4, 3, in_channels=3)
    layer.cast("float64")
    layer.initialize(mx.init.Normal(0.3))
    converted = convert(layer, d_mul=d_mul)
    assert same(converted.composed_weight(), layer.weight.data())
    assert converted.composed_weight().asnumpy().dtype == "float64"


def test_he_start_and_feature_composition(network, x):
    converted = convert(network, depthwise_init="he")
    assert abs(converted(x) - network(x)).max() > 1e-2
    assert converted.first.depthwise_init == "he"
    converted = convert(network, composition="feature")
    assert converted.first.composition == "feature"
    assert abs(converted(x) - network(x)).max() < 1e-5


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (
            nn.Dense(3),
            {},
            "must have a convolution that can be .* received a model without convolutions;",
        ),
        (
            nn.Conv2D(3, 3),
            {"where": lambda *_: False},
            "left because it was not chosen; look at",
        ),
        (nn.Conv2D(3, 3), {"d_mul": 8}, "d_mul must be at least the number of .*, 9"),
        (nn.Conv2D(3, 3), {"composition": "both"}, "unknown composition 'both'"),
        (nn.Conv2D(3, 3), {"depthwise_init": "ones"}, "unknown depthwise_init 'ones'"),
    ],
)
def test_exception_bad_options(model, options, message):
    with pytest.raises(DOConvError, match=message):
        convert(model, **options)


def test_what_was_left_may_be_converted_later(network, x, same):
    partly = convert(network, where=lambda name, _: name == "first")
    assert type(partly.body[0]) is nn.Conv2D
    fully = convert(partly)
    assert isinstance(fully.first, DOConv2D)
    assert isinstance(fully.body[0], DOConv2D)
    assert same(fully(x), network(x))
    with pytest.raises(
        DOConvError, match=r"2 reasons: it has a depthwise kernel already \(5\), a 1 x 1"
    ):
        convert(fully)


def test_where_is_a_regular_expression():
    model = nn.HybridSequential()
    model.add(nn.Conv2D(4, 3, in_channels=3), nn.Conv2D(4, 3, in_channels=4))
    assert [type(layer) for layer in convert(model, where="^1$")] == [nn.Conv2D, DOConv2D]


def test_exception_no_model():
    match = "a model must be a mxnet.gluon.Block; received a dict; give the model itself"
    for function in (convert, plan, fold, folded_parameters, lambda one: verify(one, one)):
        with pytest.raises(DOConvError, match=match):
            function({"weight": 1})
