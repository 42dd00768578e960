"""The cost formula against loops that compute the output and count every product they take."""

from dataclasses import astuple

import numpy as np
import pytest

from do_conv import DOConvError, Spec, Window, compose, identity, layer_cost
from do_conv.core.convolution import convolve
from do_conv.core.features import depthwise_kernel

BATCH = 2
SPECS = [
    pytest.param(Spec(2, 3, (3,)), id="1-D"),
    pytest.param(Spec(2, 3, (2, 3), 1, 8), id="more slots"),
    pytest.param(Spec(4, 6, (2, 2), 2, 8), id="grouped"),
    pytest.param(Spec(3, 6, (2, 2), 3), id="depthwise"),
    pytest.param(Spec(2, 2, (1, 2, 2), 2, 5), id="3-D"),
]


def arrays(spec, dtype="float64"):
    rng = np.random.default_rng(0)
    shapes = (spec.weight_shape, spec.delta_shape, (BATCH, spec.in_channels, 4, 3, 4))
    weight, delta, x = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
    return weight, delta, x[(..., *[0] * (3 - spec.rank))]


def reads(spec, o, c):
    """The input channel that output channel `o` reads as its `c`-th."""
    return o // spec.group_rows * spec.group_channels + c


def slide(kernel, x, spec):
    """An ordinary convolution without padding, and how many products it took."""
    macs = 0
    size = [n - k + 1 for n, k in zip(x.shape[2:], spec.kernel_size, strict=True)]
    out = np.zeros((x.shape[0], spec.out_channels, *size))
    for b, o, *position in np.ndindex(*out.shape):
        for c, *k in np.ndindex(spec.group_channels, *spec.kernel_size):
            where = [p + q for p, q in zip(position, k, strict=True)]
            out[(b, o, *position)] += kernel[(o, c, *k)] * x[(b, reads(spec, o, c), *where)]
            macs += 1
    return out, macs


def count_kernel(weight, delta, x, spec):
    depthwise, slots = identity(spec) + delta, weight.reshape(*weight.shape[:2], spec.d_mul)
    macs = 0
    kernel = np.zeros(spec.composed_shape)
    for o, c, *k in np.ndindex(*kernel.shape):
        for s in range(spec.d_mul):
            kernel[(o, c, *k)] += slots[o, c, s] * depthwise[(reads(spec, o, c), s, *k)]
            macs += 1
    out, more = slide(kernel, x, spec)
    return out, macs + more


def count_feature(weight, delta, x, spec):
    depthwise, slots = identity(spec) + delta, weight.reshape(*weight.shape[:2], spec.d_mul)
    macs = 0
    size = [n - k + 1 for n, k in zip(x.shape[2:], spec.kernel_size, strict=True)]
    features = np.zeros((x.shape[0], spec.in_channels, spec.d_mul, *size))
    for b, i, s, *position in np.ndindex(*features.shape):
        for k in np.ndindex(*spec.kernel_size):
            where = [p + q for p, q in zip(position, k, strict=True)]
            features[(b, i, s, *position)] += depthwise[(i, s, *k)] * x[(b, i, *where)]
            macs += 1
    out = np.zeros((x.shape[0], spec.out_channels, *size))
    for b, o, *position in np.ndindex(*out.shape):
        for c, s in np.ndindex(spec.group_channels, spec.d_mul):
            feature = features[(b, reads(spec, o, c), s, *position)]
            out[(b, o, *position)] += slots[o, c, s] * feature
            macs += 1
    return out, macs


@pytest.mark.parametrize("spec", SPECS)
def test_smoke_formula_is_the_count(spec):
    weight, delta, x = arrays(spec)
    kernel = compose(weight, delta, spec.groups)
    expected = convolve(x, kernel, Window(spec.kernel_size), spec.groups)
    cost = layer_cost(spec, expected.shape[2:], batch=BATCH)
    for counted, (out, macs) in (
        (cost.plain, slide(kernel, x, spec)),
        (cost.kernel, count_kernel(weight, delta, x, spec)),
        (cost.feature, count_feature(weight, delta, x, spec)),
    ):
        # The loops did the layer's whole work, so what they counted is its cost.
        np.testing.assert_allclose(out, expected, rtol=0, atol=1e-12 * np.abs(expected).max())
        assert counted.macs == macs


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("spec", SPECS)
def test_bytes_are_those_of_the_arrays(spec, dtype):
    weight, delta, x = arrays(spec, dtype)
    window = Window(spec.kernel_size)
    features = convolve(x, depthwise_kernel(delta, spec), window, spec.in_channels)
    composed = compose(weight, delta, spec.groups)
    size = window.output_size(x.shape[2:])
    cost = layer_cost(spec, size, batch=BATCH, itemsize=np.dtype(dtype).itemsize)
    assert cost.kernel.parameter_bytes == weight.nbytes + delta.nbytes
    assert cost.feature.parameter_bytes == weight.nbytes + delta.nbytes
    assert cost.plain.parameter_bytes == composed.nbytes
    assert cost.kernel.intermediate_bytes == composed.nbytes
    assert cost.feature.intermediate_bytes == features.nbytes
    assert cost.plain.intermediate_bytes == 0


@pytest.mark.parametrize(("groups", "macs"), [(1, 24), (2, 12)])
def test_one_position_costs_the_plain_layer(groups, macs):
    cost = layer_cost(Spec(4, 6, (1, 1), groups, 5), (3, 2), batch=BATCH)
    assert astuple(cost.plain) == (macs * 6 * BATCH, macs * 4, 0)
    assert cost.kernel == cost.feature == cost.plain
    assert cost.cheaper == "kernel"


def test_numbers_of_one_layer_by_hand():
    cost = layer_cost(Spec(64, 128, (3, 3)), (56, 56), batch=32)
    pairs, positions = 64 * 128, 32 * 56 * 56
    assert cost.plain.macs == pairs * 9 * positions
    assert cost.kernel.macs == 81 * pairs + cost.plain.macs
    assert cost.feature.macs == (81 * 64 + 9 * pairs) * positions


@pytest.mark.parametrize(
    ("size", "batch", "groups", "cheaper"),
    # With D_mul = |K| the two are equal at C_out/G output positions in the batch.
    [
        ((1, 1), 1, 1, "feature"),
        ((1, 7), 1, 1, "feature"),
        ((2, 4), 1, 1, "kernel"),
        ((3, 3), 1, 1, "kernel"),
        ((1, 3), 1, 2, "feature"),
        ((1, 3), 2, 2, "kernel"),
        ((1, 1), 1, 8, "kernel"),
    ],
)
def test_cheaper(size, batch, groups, cheaper):
    assert layer_cost(Spec(8, 8, (3, 3), groups), size, batch=batch).cheaper == cheaper


@pytest.mark.parametrize(
    ("spec", "size", "batch", "match"),
    [
        (Spec(None, 8, (3, 3)), (4, 4), 1, "in_channels must be a positive integer; .*None"),
        (Spec(4, 8, (3, 3)), (4,), 1, "output_size of a 2-D layer has 2 axes; .*with 1 value"),
        (Spec(4, 8, (3, 3)), (4, 0), 1, "output_size must be a positive integer; .*0"),
        (Spec(4, 8, (3, 3)), (4, 4), 0, "batch must be a positive integer; .*batch=0"),
    ],
)
def test_exception_sizes(spec, size, batch, match):
    with pytest.raises(DOConvError, match=match):
        layer_cost(spec, size, batch=batch)
