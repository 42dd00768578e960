"""`verify`: whether two Gluon networks do the same."""

import do_conv.gluon  # noqa: F401 - before mxnet, which reads names that this module restores

# isort: split
import mxnet as mx
import pytest
from mxnet import autograd
from mxnet.gluon import Block, HybridBlock, nn

from do_conv import DOConvError
from do_conv.gluon import DOConv2D, convert, fold, verify


def test_the_difference(network, x, trained):
    converted = trained(convert(network))
    assert verify(network, convert(network), x) == 0
    assert verify(converted, fold(converted), x) == 0
    nudged = fold(convert(network))
    nudged.up.bias.set_data(nudged.up.bias.data() + 1e-7)
    assert 0 < verify(network, nudged, x) < 1e-5


def test_nothing_moves(fresh, network, x):
    before = network.norm.running_mean.data().asnumpy()
    with autograd.record():
        verify(network, network, x)
    assert (network.norm.running_mean.data().asnumpy() == before).all()
    assert not network.first._forward_hooks
    new = fresh()
    assert verify(new, convert(new), x) == 0
    assert new.first.weight._data is None


@pytest.mark.parametrize("graph", [False, True])
def test_exception_names_the_layer_where_it_begins(network, x, trained, graph):
    other = convert(network)
    other.body[0].depthwise_delta.set_data(mx.nd.ones((6, 9, 3, 3)))
    for net in (network, other):
        net.hybridize(graph)
    match = r"within 1e-05 .* difference of .*, which begins in layer 'body.0.*'; look at layer"
    with pytest.raises(DOConvError, match=match):
        verify(network, other, x)
    assert network._active == graph


def test_exception_names_no_layer_that_runs_before_and_after_it():
    net, relu = nn.HybridSequential(), nn.Activation("relu")
    net.add(nn.Conv2D(4, 3, in_channels=3), relu, nn.Conv2D(4, 3, in_channels=4), relu)
    net.initialize()
    other = convert(net)
    other[2].weight.set_data(2 * net[2].weight.data())
    with pytest.raises(DOConvError, match="begins in layer '2'"):
        verify(net, other, mx.nd.ones((2, 3, 8, 8)))


def test_both_run_as_in_evaluation(x):
    modes = []
    net = nn.Lambda(lambda given: modes.append(autograd.is_training()) or given)
    with autograd.record():
        verify(net, net, x)
    assert modes == [False, False]


def test_exception_a_difference_that_only_the_graph_has(x):
    class InGraph(HybridBlock):
        def __init__(self):
            super().__init__()
            self.layer = nn.Activation("relu")

        def hybrid_forward(self, F, x):  # noqa: N803
            return self.layer(x) + (1 if F is mx.sym else 0)

    eager, graph = InGraph(), InGraph()
    graph.hybridize()
    with pytest.raises(DOConvError, match=r"a difference of \d\.\de[+-]\d+; compare"):
        verify(eager, graph, x)


@pytest.mark.parametrize(
    "wrong",
    [
        nn.Flatten(),
        nn.Lambda(lambda given: given * float("nan")),
        nn.Lambda(lambda given: [given, given]),
    ],
)
def test_exception_other_outputs_and_nan(x, wrong):
    with pytest.raises(DOConvError, match="outputs of other shapes, or with NaN"):
        verify(nn.Lambda(lambda given: given), wrong, x)


def test_networks_that_give_several_arrays_and_draw_random_numbers(x):
    class Several(Block):
        def __init__(self, last):
            super().__init__()
            self.last = last

        def forward(self, given):
            noise = mx.nd.random.normal(shape=given.shape)
            return {"a": given + noise, "b": [given * 2, (given + self.last,)]}

    assert verify(Several(1), Several(1), x) == 0
    with pytest.raises(DOConvError, match="must give the same outputs"):
        verify(Several(1), Several(2), x)
    drawn = []
    for _ in range(2):
        verify(Several(1), Several(1), x)
        drawn.append(mx.nd.random.uniform(shape=4).asnumpy())
    assert (drawn[0] != drawn[1]).any()


def test_numpy_arrays():
    mx.npx.set_np()
    try:
        net = nn.HybridSequential()
        net.add(nn.Conv2D(4, 3), nn.Conv2DTranspose(2, 3))
        net.initialize()
        x = mx.np.random.normal(size=(2, 3, 6, 6))
        assert verify(net, convert(net), x) == 0
        net(x)
        for d_mul in (None, 20):
            converted = convert(net, d_mul=d_mul)
            assert verify(net, converted, x) == 0
            assert verify(net, fold(converted), x) == 0
        net.add(DOConv2D(2, 3))
        net[2].initialize()
        net(x)
        assert verify(net, fold(net), x) == 0
    finally:
        mx.npx.reset_np()
