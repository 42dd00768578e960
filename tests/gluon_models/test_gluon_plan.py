"""What a conversion of a Gluon network would do, and why it leaves what it leaves."""

import re

import do_conv.gluon  # noqa: F401 - before mxnet, which reads names that this module restores

# isort: split
import mxnet as mx
import pytest
from mxnet import autograd, gluon
from mxnet.gluon import HybridBlock, nn

from do_conv import DOConvError, choices
from do_conv.gluon import DOConv2D, convert, plan


def converted(model, where):
    return [row.name for row in plan(model, where=where).converted]


def sizes(model):
    """The numbers that are trained: not running averages."""
    trained = [p for p in model.collect_params().values() if p._differentiable]
    return sum(parameter.data().size for parameter in trained)


def test_each_convolution_once_and_in_order(network):
    rows = {row.name: (row.kind, row.becomes, row.reason) for row in plan(network)}
    assert rows == {
        "first": ("Conv2D", "DOConv2D", None),
        "body.0": ("Conv2D", "DOConv2D", None),
        "body.1": ("Conv2D", None, "a 1 x 1 kernel has nothing to over-parameterize"),
        "twice": ("Conv2D", "DOConv2D", None),
        "tied": ("Conv2D", "DOConv2D", None),
        "up": ("Conv2DTranspose", "DOConv2DTranspose", None),
    }
    assert list(rows) == [row.name for row in plan(network)]


@pytest.mark.parametrize("d_mul", [None, lambda spec: spec.area + 3])
def test_parameters_are_those_of_the_networks(x, d_mul):
    model = nn.HybridSequential()
    model.add(
        nn.Conv2D(8, 3), nn.BatchNorm(), nn.Conv2D(8, (5, 1), groups=2), nn.Conv2D(4, 1),
        nn.Conv2DTranspose(6, 2),
    )  # fmt: skip
    model.initialize()
    model(x)
    found, trained = plan(model, d_mul=d_mul), convert(model, d_mul=d_mul)
    assert found.parameters == sizes(model)
    assert found.training_parameters == sizes(trained)


@pytest.mark.parametrize("state", ["new", "initialized", "hybridized"])
def test_multiply_accumulates(state):
    model = nn.HybridSequential()
    model.add(nn.Conv2D(8, 3, 2, 1), nn.Conv2D(8, 1), nn.Conv2DTranspose(4, 2, 2))
    if state != "new":
        model.initialize()
    if state == "hybridized":
        model.hybridize()
        model(mx.nd.ones((2, 3, 8, 8)))
    mx.random.seed(5)
    found = plan(model, input_shape=(2, 3, 8, 8))
    drawn = mx.nd.random.uniform(shape=4).asnumpy()
    mx.random.seed(5)
    assert (drawn == mx.nd.random.uniform(shape=4).asnumpy()).all()
    assert (model[0].weight._data is None) == (state != "hybridized")
    first, point, up = found
    assert first.macs(2) == (2 * 16 * 8 * 3 * 9, 2 * 16 * 8 * 3 * 9 + 9 * 9 * 8 * 3)
    assert point.macs(2) == (2 * 16 * 8 * 8, 2 * 16 * 8 * 8)
    assert up.macs(2) == (2 * 16 * 8 * 4 * 4, 2 * 16 * 8 * 4 * 4 + 4 * 4 * 8 * 4)
    assert found.parameters == 8 * 27 + 8 + 64 + 8 + 8 * 16 + 4
    assert plan(model).macs is None
    model.cast("float64")
    assert plan(model, input_shape=(2, 3, 8, 8)).macs == found.macs
    by_feature = plan(model, input_shape=(2, 3, 8, 8), composition="feature").rows[0]
    assert by_feature.macs(2)[1] == 2 * 16 * (9 * 9 * 3 + 8 * 3 * 9)


def test_a_layer_is_counted_for_each_time_it_is_used():
    layer, model = nn.Conv2D(3, 3, padding=1), nn.HybridSequential()
    model.add(layer, nn.MaxPool2D())
    model.add(layer)
    (row,) = plan(model, input_shape=(2, 3, 8, 8))
    assert row.positions == ((8, 8), (4, 4))
    assert row.macs(2) == (2 * 80 * 81, 2 * 80 * 81 + 2 * 9 * 81)


def test_it_runs_as_in_evaluation():
    class Evaluated(HybridBlock):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2D(4, 3)

        def hybrid_forward(self, F, x):  # noqa: N803
            assert not autograd.is_training()
            return self.layer(x)

    with autograd.record():
        assert plan(Evaluated(), input_shape=(1, 3, 5, 5)).macs is not None


def test_the_table(network):
    table = str(plan(network, input_shape=(1, 3, 64, 64), d_mul=lambda spec: spec.area + 1))
    lines = table.splitlines()
    assert "layer is becomes parameters training MACs training" in " ".join(table.split())
    assert re.search(r" Conv2D +DOConv2D, d_mul=10 ", table)
    assert "(1) left: a 1 x 1 kernel has nothing to over-parameterize" in lines
    assert "whole model, 5 of 6 convolutions" in table
    assert max(map(len, lines)) <= 80
    assert "(the model)  Conv2D  DOConv2D" in str(plan(nn.Conv2D(4, 3)))


def test_the_table_of_channels_that_are_not_known():
    deferred = nn.HybridSequential()
    deferred.add(nn.Conv2D(4, 3), nn.Conv2D(4, 1))
    deferred.initialize()
    table = str(plan(deferred))
    assert [line.split()[-2:] for line in table.splitlines()[2:6:1] if "Conv2D" in line] == [
        ["-", "-"], ["-", "-"],
    ]  # fmt: skip
    assert "not known before the network has seen an input" in table
    assert " 112 " in str(plan(deferred, input_shape=(1, 3, 8, 8)))


@pytest.mark.parametrize(
    ("where", "names"),
    [
        (choices.first(2), ["first", "body.0"]),
        (choices.depthwise(), ["body.0"]),
        (choices.kernel_at_least(3), ["first", "body.0", "up"]),
        (choices.named("first|up"), ["first", "up"]),
        (lambda name, layer: layer._kwargs["stride"] == (2, 2), ["up"]),
    ],
)
def test_choices(network, where, names):
    assert converted(network, where) == names


class Named(nn.Conv2D):
    """A subclass that is a plain convolution, with a constructor of its own."""

    def __init__(self, **kwargs):
        super().__init__(4, 3, **kwargs)


class Scaled(Named):
    """A forward pass that is given the weight."""

    def hybrid_forward(self, F, x, weight, bias=None):  # noqa: N803
        return super().hybrid_forward(F, 2 * x, weight / 3, bias)


class Outside(nn.Conv2D):
    """A forward pass that reads the weight itself."""

    def hybrid_forward(self, F, x, weight, bias=None):  # noqa: N803
        return super().hybrid_forward(F, x, self.weight.data() * 2, bias)


class Around(nn.Conv2D):
    """A forward pass outside of the graph."""

    def forward(self, x):
        return super().forward(x) * self.weight.data().sum()


class Upwards(nn.Conv2DTranspose):
    def hybrid_forward(self, F, x, weight, bias=None):  # noqa: N803
        return super().hybrid_forward(F, x, weight * 2, bias)


class Learned(nn.Conv2D):
    """A parameter of its own beside the weight."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.scale = self.params.get("scale", shape=(1,))

    def hybrid_forward(self, F, x, weight, bias=None, scale=None):  # noqa: N803
        return super().hybrid_forward(F, F.broadcast_mul(x, scale), weight, bias)


def hidden(count):
    """A graph that holds some convolutions."""
    x, inside = mx.sym.var("data"), nn.HybridSequential()
    inside.add(*[nn.Conv2D(4, 3) for _ in range(count)], nn.Dense(2))
    return gluon.SymbolBlock(inside(x), x, params=inside.collect_params())


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: nn.Conv2D(4, 1), "a 1 x 1 kernel has nothing to over-parameterize"),
        (lambda: DOConv2D(4, 3), "it has a depthwise kernel already"),
        (lambda: nn.Conv2D(4, 3, layout="NHWC"), "its layout is NHWC"),
        (lambda: Outside(4, 3), "its own forward pass is not seen to read its weight"),
        (lambda: Around(4, 3), "its own forward pass is not seen to read its weight"),
        (lambda: Upwards(4, 3), "its own forward pass is not seen to read its weight"),
        (lambda: Learned(4, 3), "its own forward pass is not seen to read its weight"),
        (lambda: hidden(3), "it is a graph of operations with 3 convolutions inside"),
        (lambda: hidden(1), "it is a graph of operations with 1 convolution inside"),
    ],
)
def test_what_is_left_and_why(make, reason):
    layer, model = make(), nn.HybridSequential()
    with pytest.raises(DOConvError, match=f"received 1 convolution, left because {reason};"):
        convert(layer)
    model.add(nn.Conv2D(3, 3), layer)
    (row,) = plan(model).left
    assert (row.name, row.kind, row.reason) == ("1", type(layer).__name__, reason)
    assert type(convert(model)[1]) is type(layer)


def test_the_parameters_that_a_graph_hides():
    x, inside = mx.sym.var("data"), nn.HybridSequential()
    inside.add(nn.Conv2D(4, 3, in_channels=2), nn.BatchNorm(in_channels=4), nn.Conv2D(2, 1))
    block = gluon.SymbolBlock(inside(x), x, params=inside.collect_params())
    block.initialize()
    block(mx.nd.ones((1, 2, 5, 5)))
    (row,) = plan(block)
    assert row.parameters == 4 * 2 * 9 + 4 + 2 * 4 + 2
    model = nn.HybridSequential()
    model.add(block, nn.Conv2D(2, 3))
    assert converted(model, choices.first(2)) == []
    assert converted(model, choices.first(3)) == ["1"]


@pytest.mark.filterwarnings("ignore:Parameter .* is not used")
@pytest.mark.parametrize("kind", [Named, Scaled])
@pytest.mark.parametrize("seen", [True, False])
def test_subclasses(kind, seen, x, trained, same, described):
    model = nn.HybridSequential()
    model.add(kind(prefix="layer_"), nn.Conv2D(2, 1))
    model.initialize()
    model.hybridize()
    if seen:
        model(x)
    ours, outputs = convert(model, d_mul=9, composition="feature"), []
    assert type(ours[0]).__name__ == f"DO{kind.__name__}"
    assert isinstance(ours[0], kind)
    assert ours[0].composition == ("kernel" if kind is Scaled else "feature")
    ours[0].composition = "kernel"
    for net in (model, ours):
        mx.random.seed(1)
        outputs.append(net(x))
    assert same(*outputs)
    expected = trained(ours)(x)
    folded = ours[0].fold()
    assert type(folded) is kind
    assert described(folded) == described(model[0])
    assert abs(model[1](folded(x)) - expected).max() < 1e-5


def test_where_is_asked_about_the_network_s_own_layers(network):
    chosen = network.body[0]
    for shape in (None, (1, 3, 8, 8)):
        found = plan(network, input_shape=shape, where=lambda name, layer: layer is chosen)
        assert [row.name for row in found.converted] == ["body.0"]


def test_where_is_asked_about_convolutions_of_a_graph():
    block = hidden(2)
    options = {"door": "optimizer", "where": lambda name, layer: True}
    found = plan(block, input_shape=(1, 3, 8, 8), **options)
    assert [row.name for row in found] == [row.name for row in plan(block, **options)]
