"""Depthwise separable convolutions: the same pair, where I is zero and D_mul is free."""

import numpy as np
import pytest

from do_conv import (
    DOConvError,
    SeparableSpec,
    Spec,
    Window,
    compose_separable,
    convolve,
    layer_cost,
)
from do_conv.core.composition import compose_spec_gradients
from do_conv.core.features import convolve_features, feature_gradients
from do_conv.core.starts import identity

PAIRS = [
    (4, 6, (3, 3), 1, 1),
    (4, 6, (3, 2), 2, 2),
    (4, 8, (2, 2), 4, 5),
    (1, 3, (3, 3), 1, 3),
    (4, 6, (1, 1), 2, 3),
    (3, 4, (4,), 1, 2),
]


@pytest.mark.parametrize(("c_in", "c_out", "k", "groups", "d_mul"), PAIRS)
def test_it_is_a_depthwise_then_a_pointwise_convolution(c_in, c_out, k, groups, d_mul):
    spec = SeparableSpec(c_in, c_out, k, groups, d_mul)
    rng = np.random.default_rng(0)
    depthwise = rng.standard_normal((c_in, d_mul, *k))
    weight = rng.standard_normal((c_out, c_in // groups, d_mul))
    assert (spec.delta_shape, spec.weight_shape) == (depthwise.shape, weight.shape)
    x = rng.standard_normal((2, c_in, *[6] * len(k)))
    window = Window(k, 2, 1)
    hidden = convolve(x, depthwise.reshape(-1, 1, *k), window, c_in)
    pointwise = weight.reshape(c_out, -1, *[1] * len(k))
    expected = convolve(hidden, pointwise, Window((1,) * len(k)), groups)

    kernel = compose_separable(weight, depthwise, groups)
    found = convolve(x, kernel, window, groups)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())
    found = convolve_features(x, weight, depthwise, spec, window)
    np.testing.assert_array_equal(found, expected)

    # W' is linear in W and in D.
    grad = rng.standard_normal(kernel.shape)
    by_weight, by_depthwise = compose_spec_gradients(grad, weight, depthwise, spec)
    for found, one in ((by_weight, weight), (by_depthwise, depthwise)):
        assert found.shape == one.shape
        assert np.isclose(np.vdot(found, one), np.vdot(grad, kernel), rtol=1e-10)
    grad = rng.standard_normal(expected.shape)
    _, by_weight, by_depthwise, _ = feature_gradients(grad, x, weight, depthwise, spec, window)
    for found, one in ((by_weight, weight), (by_depthwise, depthwise)):
        assert np.isclose(np.vdot(found, one), np.vdot(grad, expected), rtol=1e-10)


def test_there_is_no_identity_and_one_slot_by_default():
    spec = SeparableSpec(4, 6, (3, 3))
    assert spec.d_mul == 1
    assert not identity(spec).any()
    assert SeparableSpec.of_shapes((6, 2, 3), (4, 3, 2, 2), 2) == SeparableSpec(4, 6, (2, 2), 2, 3)
    assert Spec(4, 6, (2, 2)) != SeparableSpec(4, 6, (2, 2), d_mul=4)


@pytest.mark.parametrize(
    ("weight", "depthwise", "groups"),
    [
        ((6, 4, 2), (4, 3, 3, 3), 1),
        ((6, 4, 2), (4, 2), 1),
        ((6, 4, 1, 1), (4, 1, 3, 3), 1),
        ((6, 4, 2), (4, 2, 3, 3), 2),
    ],
)
def test_exception_arrays_of_two_layers(weight, depthwise, groups):
    match = r"a separable pair must have .* received weight \(6, .*; check groups"
    with pytest.raises(DOConvError, match=match):
        compose_separable(np.ones(weight), np.ones(depthwise), groups)


def test_exception_no_slots():
    with pytest.raises(DOConvError, match="d_mul must be a positive integer; received d_mul=0"):
        SeparableSpec(4, 6, (3, 3), d_mul=0)


def test_costs_of_the_papers_example_of_the_two_compositions():
    """Section 3: features are dear in memory, the kernel in multiply-accumulates."""
    cost = layer_cost(SeparableSpec(64, 128, (3, 3)), (56, 56), batch=2)
    positions = 2 * 56 * 56
    assert cost.feature.macs == positions * (9 * 64 + 64 * 128)
    assert cost.kernel.macs == 9 * 64 * 128 + positions * 9 * 64 * 128
    assert cost.plain == cost.feature
    assert cost.feature.intermediate_bytes == 4 * positions * 64
    assert cost.kernel.intermediate_bytes == 4 * 9 * 64 * 128
    assert cost.kernel.parameter_bytes == 4 * (9 * 64 + 64 * 128)
    assert cost.cheaper == "feature"
