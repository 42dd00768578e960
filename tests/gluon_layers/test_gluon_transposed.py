"""The transposed Gluon layers: their shapes, their gradients, and what MXNet cannot do."""

import do_conv.gluon  # noqa: F401 - before mxnet, which reads names that this module restores

# isort: split
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from mxnet.gluon import nn

from do_conv import DOConvError
from do_conv.gluon import DOConv1DTranspose, DOConv2DTranspose, DOConv3DTranspose, adapter
from do_conv.parity import comparison
from do_conv.parity.cases import Case
from do_conv.parity.layer import arrays, core_results, framework_results

GRAPHS = [None, {}, {"static_alloc": True, "static_shape": True}]


@pytest.mark.parametrize(
    ("options", "weight", "delta"),
    [
        ({"kernel_size": 3}, (4, 6, 3, 3), (6, 9, 3, 3)),
        ({"kernel_size": (2, 3), "groups": 2}, (4, 3, 2, 3), (6, 6, 2, 3)),
        ({"kernel_size": 3, "groups": 2, "d_mul": 11}, (4, 3, 11), (6, 11, 3, 3)),
        ({"kernel_size": 1, "d_mul": 5}, (4, 6, 1, 1), None),
    ],
)
@pytest.mark.parametrize("in_channels", [4, 0])
def test_parameters(options, weight, delta, in_channels, batch):
    layer = DOConv2DTranspose(6, **options, in_channels=in_channels)
    layer.initialize()
    if not in_channels:
        # D' belongs to the output channels, so it is there before an input is.
        assert layer.weight.shape == (0, *weight[1:])
        assert delta is None or layer.depthwise_delta.data().shape == delta
    layer(batch())
    assert layer.weight.data().shape == weight
    assert layer.bias.data().shape == (6,)
    found = layer.depthwise_delta
    assert delta is None if found is None else found.data().shape == delta


# MXNet's operator has layouts of its own for channels and positions in eights.
GRADIENTS = [
    Case("eight", (16, 8), (4, 2), (4, 3), "transposed", stride=2),
    Case("sixteen", (16, 1), (4, 4), (4, 3), "transposed", stride=2, padding=1),
    Case("sixteen-more", (8, 16), (4, 4), (4, 3), "transposed", d_mul=24, stride=2),
    Case("depthwise", (8, 8), (4, 4), (4, 3), "transposed", groups=8, padding=1),
    Case("1d", (16, 16), (8,), (5,), "transposed", groups=2, stride=4),
    Case("stride-dilation", (4, 8), (3, 3), (4, 3), "transposed", stride=2, dilation=2),
    Case("3d", (8, 8), (2, 2, 2), (3, 2, 3), "transposed", stride=(1, 2, 2), output_padding=0),
    Case("3d-groups", (4, 6), (2, 3, 1), (3, 2, 3), "transposed", groups=2, padding=(0, 1, 0)),
]


@pytest.mark.parametrize("case", GRADIENTS, ids=[case.name for case in GRADIENTS])
def test_float32_agrees_with_the_core(case):
    """More than the table of every framework has: in float64 MXNet refuses or errs on some."""
    given = arrays(case, "float32")
    found, expected = framework_results(adapter, case, given), core_results(case, given)
    errors = {name: comparison.relative_error(found[name], expected[name]) for name in expected}
    assert max(errors.values()) <= comparison.TOLERANCES["float32"][0], errors


@pytest.mark.parametrize("graph", GRAPHS, ids=["eager", "graph", "static"])
@pytest.mark.parametrize("bias", [True, False])
def test_recording_changes_no_bit(graph, bias, batch, trained):
    """The gradients take a way of their own; the output does not."""
    layer = trained(DOConv2DTranspose(6, 4, 2, 1, use_bias=bias), batch())
    x, plain = batch(), layer.fold()
    if graph is not None:
        layer.hybridize(**graph)
    with autograd.record():
        recorded = layer(x)
    for out in (recorded, layer(x)):
        assert np.array_equal(out.asnumpy(), plain(x).asnumpy())


@pytest.mark.parametrize("graph", GRAPHS, ids=["eager", "graph", "static"])
def test_a_network_of_transposed_layers_learns(graph, composition, batch):
    net = nn.HybridSequential()
    options = {"strides": 2, "padding": 1, "activation": "relu", "composition": composition}
    net.add(DOConv2DTranspose(8, 4, **options), DOConv2DTranspose(1, 4, **options))
    net.initialize(mx.init.Xavier())
    if graph is not None:
        net.hybridize(**graph)
    x, losses = batch(), []
    trainer = mx.gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 0.01})
    for _ in range(20):
        with autograd.record():
            loss = (net(x) - 1).square().mean()
        loss.backward()
        trainer.step(1)
        losses.append(loss.asscalar())
    assert losses[-1] < 0.5 * losses[0]
    assert all(layer.depthwise_delta.data().asnumpy().any() for layer in net)


@pytest.mark.parametrize("value", [1, (0, 1)])
def test_output_padding_is_smaller_than_the_stride(value):
    with pytest.raises(DOConvError, match="output_padding must be smaller than the stride"):
        DOConv2DTranspose(6, 3, (2, 1), output_padding=value, dilation=3)


def test_output_padding_is_whole_numbers():
    with pytest.raises(DOConvError, match="output_padding must be an integer"):
        DOConv2DTranspose(6, 3, 2, output_padding="same")


@pytest.mark.parametrize(
    ("layer", "options"),
    [
        (DOConv1DTranspose, {"layout": "NWC"}),
        (DOConv2DTranspose, {"layout": "NHWC"}),
        (DOConv3DTranspose, {"layout": "NDHWC"}),
    ],
)
def test_channels_last_is_refused(layer, options):
    with pytest.raises(DOConvError, match="layout must be 'NC"):
        layer(6, 3, **options)


def test_groups_name_the_channels_as_they_came():
    with pytest.raises(DOConvError, match=r"divide the output channels; .*groups=4 for 6 output"):
        DOConv2DTranspose(6, 3, groups=4, in_channels=8)
    layer = DOConv2DTranspose(6, 3, groups=3)
    layer.initialize()
    with pytest.raises(DOConvError, match=r"divide the input channels; .*groups=3 for 4 input"):
        layer(mx.nd.ones((1, 4, 5, 5)))


@pytest.mark.parametrize("hybridized", [False, True])
@pytest.mark.parametrize(
    ("shape", "dtype", "rule"),
    [
        ((4, 8, 8), None, "takes an input of 4 axes"),
        ((2, 6, 8, 8), None, "made for 4 input channels, on axis 1"),
        ((2, 4, 8, 8), "float64", "the layer computes in, float32"),
    ],
)
def test_bad_inputs(shape, dtype, rule, hybridized, kind, composition, batch):
    layer = kind(composition=composition)
    layer.initialize()
    if hybridized:
        layer.hybridize()
    layer(batch())
    with pytest.raises(DOConvError, match=rule):
        layer(mx.nd.zeros(shape, dtype=dtype))
