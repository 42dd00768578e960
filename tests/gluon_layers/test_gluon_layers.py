"""The Gluon layers as a person meets them: arguments, parameters, compositions, graphs, files."""

import inspect

import do_conv.gluon  # noqa: F401 - before mxnet, which reads names that this module restores

# isort: split
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from mxnet.gluon import nn

from do_conv import DOConvError
from do_conv.gluon import (
    DOConv1D,
    DOConv1DTranspose,
    DOConv2D,
    DOConv2DTranspose,
    DOConv3D,
    DOConv3DTranspose,
)

CLASSES = {
    1: (DOConv1D, nn.Conv1D),
    2: (DOConv2D, nn.Conv2D),
    3: (DOConv3D, nn.Conv3D),
    "t1": (DOConv1DTranspose, nn.Conv1DTranspose),
    "t2": (DOConv2DTranspose, nn.Conv2DTranspose),
    "t3": (DOConv3DTranspose, nn.Conv3DTranspose),
}
SIZES = {1: (9,), 2: (9, 8), 3: (5, 6, 5), "t1": (9,), "t2": (5, 4)}
EXACT = {"float32": 1e-6, "float64": 1e-14}

WINDOWS = [
    pytest.param(1, {"kernel_size": 3, "d_mul": 5}, id="1d"),
    pytest.param(2, {"kernel_size": 3, "padding": 1}, id="2d"),
    pytest.param(2, {"kernel_size": (2, 3), "strides": (2, 1), "dilation": (1, 2)}, id="2d-steps"),
    pytest.param(2, {"kernel_size": 3, "groups": 4, "padding": (2, 1)}, id="2d-depthwise"),
    pytest.param(2, {"kernel_size": 3, "groups": 2, "d_mul": 11}, id="2d-more"),
    pytest.param(2, {"kernel_size": (3, 2), "d_mul": 12, "use_bias": False}, id="2d-twice"),
    pytest.param(3, {"kernel_size": (1, 2, 3), "groups": 2, "d_mul": 7}, id="3d-more"),
    pytest.param("t1", {"kernel_size": 4, "strides": 2, "padding": 1, "d_mul": 5}, id="t1d"),
    pytest.param("t2", {"kernel_size": 3, "strides": 2, "output_padding": 1}, id="t2d"),
    pytest.param("t2", {"kernel_size": (2, 3), "groups": 2, "dilation": 2}, id="t2d-groups"),
]


@pytest.fixture(autouse=True)
def _seed():
    mx.random.seed(3)


def make(rank, dtype="float64", **options):
    """A layer with nothing at zero, and an input for it."""
    layer = CLASSES[rank][0](8, **{"in_channels": 4, **options})
    layer.cast(dtype)
    layer.initialize(mx.init.Normal(0.3))
    for parameter in (layer.depthwise_delta, layer.bias):
        if parameter is not None:
            parameter.set_data(mx.nd.random.normal(0, 0.3, parameter.shape, dtype=dtype))
    return layer, mx.nd.random.normal(shape=(2, 4, *SIZES[rank]), dtype=dtype)


def assert_close(found, expected, tolerance):
    """Within `tolerance` of the largest number."""
    found, expected = found.asnumpy(), expected.asnumpy()
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def equal(first, second):
    return np.array_equal(first.asnumpy(), second.asnumpy())


@pytest.mark.parametrize(("ours", "plain"), CLASSES.values())
def test_signature_is_the_plain_one_and_three_keywords(ours, plain):
    *expected, block = inspect.signature(plain).parameters.values()
    found = list(inspect.signature(ours).parameters.values())
    assert [(p.name, p.kind) for p in found[: len(expected)]] == [
        (p.name, p.kind) for p in expected
    ]
    assert (found[-1].name, found[-1].kind) == (block.name, block.kind)
    added = found[len(expected) : -1]
    assert [p.name for p in added] == ["d_mul", "depthwise_init", "composition"]
    assert {p.kind for p in added} == {inspect.Parameter.KEYWORD_ONLY}
    assert repr(ours(4, 3)) == "DO" + repr(plain(4, 3))


@pytest.mark.parametrize(
    ("kind", "layout", "window"),
    [
        (1, "NCW", (1, 2)),
        (2, "NCHW", (1, 2)),
        (3, "NCDHW", (1, 2)),
        ("t1", "NCW", (2, 1, 2)),
        ("t2", "NCHW", (2, 1, 2)),
        ("t3", "NCDHW", (2, 1, 1)),
    ],
)
def test_arguments_by_position(kind, layout, window):
    ours, plain = CLASSES[kind]
    positions = (6, 3, 2, *window, 2, layout, "relu", False, "ones", "zeros", 4)
    layer, expected = ours(*positions), plain(*positions)
    assert layer._kwargs == {**expected._kwargs, "stride": (2,) * len(layout[2:])}
    assert isinstance(layer, plain)
    assert repr(layer) == "DO" + repr(expected)
    layer.initialize()
    assert layer.weight.shape == expected.weight.shape
    assert (layer.weight.data() == 1).asnumpy().all()
    with pytest.raises(TypeError):
        ours(*positions, 9)


@pytest.mark.parametrize(
    ("options", "shapes"),
    [
        ({"kernel_size": 3}, {"weight": (8, 4, 3, 3), "depthwise_delta": (4, 9, 3, 3)}),
        ({"kernel_size": 3, "d_mul": 11}, {"weight": (8, 4, 11), "depthwise_delta": (4, 11, 3, 3)}),
        (
            {"kernel_size": (2, 3), "groups": 2, "d_mul": 12},
            {"weight": (8, 2, 12), "depthwise_delta": (4, 12, 2, 3)},
        ),
        (
            {"kernel_size": 3, "groups": 4},
            {"weight": (8, 1, 3, 3), "depthwise_delta": (4, 9, 3, 3)},
        ),
        ({"kernel_size": 1, "d_mul": 7}, {"weight": (8, 4, 1, 1)}),
    ],
)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("in_channels", [4, 0])
def test_parameters(options, shapes, bias, in_channels):
    layer = DOConv2D(8, **options, use_bias=bias, in_channels=in_channels, prefix="one_")
    layer.initialize()
    layer(mx.nd.ones((1, 4, 6, 6)))
    expected = {f"one_{name}": shape for name, shape in shapes.items()}
    if bias:
        expected["one_bias"] = (8,)
    assert {name: p.shape for name, p in layer.collect_params().items()} == expected
    assert all(p.data().shape == p.shape for p in layer.collect_params().values())


def test_default_names_are_those_of_a_convolution():
    def names(conv):
        with mx.name.NameManager():
            return list(conv(8, 3).collect_params())

    assert names(DOConv2D) == [*names(nn.Conv2D), "conv0_depthwise_delta"]


@pytest.mark.parametrize("in_channels", [4, 0])
@pytest.mark.parametrize("d_mul", [None, 11, 18])
def test_shared_parameters(d_mul, in_channels):
    first, x = make(2, "float32", kernel_size=3, d_mul=d_mul)
    shapes = {name: p.shape for name, p in first.collect_params().items()}
    second = DOConv2D(8, 3, d_mul=d_mul, in_channels=in_channels, params=first.collect_params())
    assert {name: p.shape for name, p in first.collect_params().items()} == shapes
    assert second.weight is first.weight
    assert second.depthwise_delta is first.depthwise_delta
    assert equal(second(x), first(x))


def test_parameters_shared_with_a_plain_layer():
    plain = nn.Conv2D(8, 3, in_channels=4)
    plain.initialize()
    layer = DOConv2D(8, 3, in_channels=4, params=plain.params)
    layer.depthwise_delta.initialize()
    assert layer.weight is plain.weight
    x = mx.nd.random.normal(shape=(1, 4, 6, 6))
    assert equal(layer(x), plain(x))


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("composition", ["kernel", "feature"])
def test_activation(composition, activation):
    layer, x = make(2, kernel_size=3, activation=activation, composition=composition)
    linear = DOConv2D(8, 3, in_channels=4, composition=composition, params=layer.params)
    assert (linear(x) < 0).asnumpy().any()
    assert_close(layer(x), mx.nd.Activation(linear(x), act_type=activation), EXACT["float64"])


@pytest.mark.parametrize(("rank", "window"), WINDOWS)
def test_composition_may_be_switched(rank, window):
    layer, x = make(rank, **window)
    results = []
    for composition in ("kernel", "feature", "kernel"):
        layer.composition = composition
        with autograd.record():
            out = layer(x)
            loss = out.square().sum()
        loss.backward()
        grads = [p.grad().copy() for p in layer.collect_params().values()]
        results.append([out, *grads])
    for first, second, third in zip(*results, strict=True):
        assert first.asnumpy().any()
        assert_close(second, first, 1e-13)
        assert equal(third, first)


@pytest.mark.parametrize("composition", ["kernel", "feature"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("rank", "window"), WINDOWS)
def test_hybridized_and_imperative_agree(rank, window, dtype, composition):
    layer, x = make(rank, dtype, composition=composition, **window)
    expected = layer(x)
    layer.hybridize()
    assert_close(layer(x), expected, EXACT[dtype])
    layer.depthwise_delta.set_data(-layer.depthwise_delta.data())
    assert not equal(layer(x), expected)


def test_a_graph_is_kept_until_hybridize_is_called_again():
    layer, x = make(2, kernel_size=3)
    layer.hybridize()
    expected = layer(x)
    layer.composition = "both"
    assert equal(layer(x), expected)
    layer.hybridize()
    with pytest.raises(DOConvError, match="unknown composition 'both'"):
        layer(x)
    layer.composition = "feature"
    layer.hybridize()
    assert_close(layer(x), expected, 1e-13)


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({"d_mul": 9, "depthwise_init": "identity", "composition": "kernel"}, ""),
        ({"d_mul": 11}, ", d_mul=11"),
        ({"depthwise_init": "he"}, ", depthwise_init='he'"),
        ({"composition": "feature"}, ", composition='feature'"),
    ],
)
@pytest.mark.parametrize("in_channels", [4, 0])
def test_repr_adds_what_differs_from_the_defaults(options, shown, in_channels):
    window = {"padding": (1, 0), "groups": 2, "activation": "relu", "in_channels": in_channels}
    plain = repr(nn.Conv2D(6, 3, **window))
    assert repr(DOConv2D(6, 3, **window, **options)) == f"DO{plain[:-1]}{shown})"
