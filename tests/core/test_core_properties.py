"""What holds for every layer: both compositions agree, composition is linear, folding is exact."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from do_conv import Spec, Window, compose, compose_gradients, fold, identity
from do_conv.core.convolution import convolve, convolve_gradients
from do_conv.core.features import convolve_features, feature_gradients
from do_conv.core.transposed import convolve_transposed

EXAMPLES = settings(deadline=None, max_examples=50, derandomize=True)
# Below 1e-6 a product may vanish where a framework in this process flushes tiny numbers to zero.
FACTORS = st.floats(-3, 3).filter(lambda factor: factor == 0 or abs(factor) > 1e-6)
SEEDS = st.integers(0, 2**32 - 1)
MODES = ("zeros", "reflect", "replicate", "circular")


@dataclass(frozen=True)
class Layer:
    """A random layer, its window, and an input that fits it."""

    spec: Spec
    window: Window
    size: tuple[int, ...]
    seed: int

    def normal(self, shape, stream=0):
        return np.random.default_rng((self.seed, stream)).standard_normal(shape)

    @property
    def x(self):
        return self.normal((2, self.spec.in_channels, *self.size), 1)

    @property
    def weight(self):
        return self.normal(self.spec.weight_shape, 2)

    @property
    def delta(self):
        return self.normal(self.spec.delta_shape, 3)

    @property
    def bias(self):
        return self.normal(self.spec.out_channels, 4)


@st.composite
def specs(draw, d_mul_is_default=False):
    rank = draw(st.integers(1, 3))
    kernel = draw(
        st.tuples(*[st.integers(1, 3 if rank < 3 else 2)] * rank).filter(lambda k: max(k) > 1)
    )
    groups = draw(st.integers(1, 3))
    in_channels, out_channels = (groups * draw(st.integers(1, 3)) for _ in range(2))
    spec = Spec(in_channels, out_channels, kernel, groups)
    more = 0 if d_mul_is_default else draw(st.integers(0, 2 * spec.area + 1))
    return Spec(in_channels, out_channels, kernel, groups, spec.area + more)


@st.composite
def layers(draw, words=("same", "valid"), modes=MODES):
    spec = draw(specs())
    per_axis = [st.integers(0, 2)] * spec.rank
    pairs = st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * spec.rank)
    window = Window(
        spec.kernel_size,
        tuple(1 + n for n in draw(st.tuples(*per_axis))),
        draw(st.one_of(pairs, *map(st.just, words))),
        draw(st.tuples(*[st.integers(1, 2)] * spec.rank)),
        draw(st.sampled_from(modes)),
    )
    size = tuple(e + n for e, n in zip(window.extent, draw(st.tuples(*per_axis)), strict=True))
    return Layer(spec, window, size, draw(SEEDS))


def assert_close(actual, expected, tolerance=1e-12):
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@given(layers())
@EXAMPLES
def test_feature_composition_is_kernel_composition(layer):
    groups, window, x, weight, delta = (
        layer.spec.groups,
        layer.window,
        layer.x,
        layer.weight,
        layer.delta,
    )
    kernel = compose(weight, delta, groups)
    expected = convolve(x, kernel, window, groups, layer.bias)
    assert_close(convolve_features(x, weight, delta, layer.spec, window, layer.bias), expected)

    grad = layer.normal(expected.shape, 5)
    by_x, by_kernel, by_bias = convolve_gradients(grad, x, kernel, window, groups)
    by_weight, by_delta = compose_gradients(by_kernel, weight, delta, groups)
    found = feature_gradients(grad, x, weight, delta, layer.spec, window)
    for one, other in zip(found, (by_x, by_weight, by_delta, by_bias), strict=True):
        assert_close(one, other)


@given(specs(), SEEDS, FACTORS, FACTORS)
@EXAMPLES
def test_composition_is_linear_in_weight(spec, seed, a, b):
    rng = np.random.default_rng(seed)
    first, second = rng.standard_normal((2, *spec.weight_shape))
    delta = rng.standard_normal(spec.delta_shape)
    one, other = (compose(weight, delta, spec.groups) for weight in (first, second))
    mixed = compose(a * first + b * second, delta, spec.groups)
    scale = np.abs(a * one).max() + np.abs(b * other).max()
    np.testing.assert_allclose(mixed, a * one + b * other, rtol=0, atol=1e-12 * scale)


@given(specs(), SEEDS, FACTORS, FACTORS)
@EXAMPLES
def test_composition_is_linear_in_the_depthwise_kernel_and_affine_in_delta(spec, seed, a, b):
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal(spec.weight_shape)
    first, second = rng.standard_normal((2, *spec.delta_shape))
    one, other = (compose(weight, delta, spec.groups) for delta in (first, second))
    scale = 1e-12 * (np.abs(one).max() + np.abs(other).max())

    # D = I + D', so the D' of a D_1 + b D_2 is what is left without one I.
    ones = identity(spec)
    mixed = a * (ones + first) + b * (ones + second)
    linear = compose(weight, mixed - ones, spec.groups)
    np.testing.assert_allclose(linear, a * one + b * other, rtol=0, atol=10 * scale)

    between = compose(weight, 0.25 * first + 0.75 * second, spec.groups)
    np.testing.assert_allclose(between, 0.25 * one + 0.75 * other, rtol=0, atol=scale)


@given(specs(d_mul_is_default=True), SEEDS, st.sampled_from(["float64", "float32", "float16"]))
@EXAMPLES
def test_fold_of_an_identity_start_is_the_weight(spec, seed, dtype):
    weight = np.random.default_rng(seed).standard_normal(spec.weight_shape).astype(dtype)
    folded = fold(weight, np.zeros(spec.delta_shape, dtype), spec.groups)
    assert folded.dtype == dtype
    np.testing.assert_array_equal(folded, weight)


@given(layers())
@EXAMPLES
def test_scaling_an_output_channel_of_weight_scales_that_channel_of_the_kernel(layer):
    # So a batch norm may be fused into W before folding.
    scale = 2.0 ** np.arange(layer.spec.out_channels)
    scaled = layer.weight * scale.reshape(-1, *[1] * (layer.weight.ndim - 1))
    expected = compose(layer.weight, layer.delta, layer.spec.groups)
    scale = scale.reshape(-1, *[1] * (expected.ndim - 1))
    assert_close(compose(scaled, layer.delta, layer.spec.groups) / scale, expected)


@given(layers(words=(), modes=("zeros",)))
@EXAMPLES
def test_transposed_with_a_composed_kernel_is_the_adjoint(layer):
    kernel = compose(layer.weight, layer.delta, layer.spec.groups)
    x, window, groups = layer.x, layer.window, layer.spec.groups
    out = convolve(x, kernel, window, groups)
    y = layer.normal(out.shape, 5)
    # Positions at the end that no step of the stride reaches.
    unread = tuple(
        (n + sum(pad) - extent) % step
        for n, pad, extent, step in zip(
            layer.size, window.pads(layer.size), window.extent, window.stride, strict=True
        )
    )
    back = convolve_transposed(y, kernel, window, groups, output_padding=unread)
    assert back.shape == x.shape
    scale = np.linalg.norm(out) * np.linalg.norm(y)
    # Equal where the output reads nothing but padding: both are zero.
    assert abs(np.vdot(back, x) - np.vdot(y, out)) <= 1e-12 * scale


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_acnet_is_a_layer_of_fifteen_slots_with_a_frozen_depthwise_kernel(groups, stride):
    """Asymmetric convolution blocks (Ding et al., 2019), without their batch norms."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 4, 7, 6))
    square = rng.standard_normal((8, 4 // groups, 3, 3))
    row = rng.standard_normal((8, 4 // groups, 1, 3))
    column = rng.standard_normal((8, 4 // groups, 3, 1))
    expected = (
        convolve(x, square, Window((3, 3), stride, 1), groups)
        + convolve(x, row, Window((1, 3), stride, (0, 1)), groups)
        + convolve(x, column, Window((3, 1), stride, (1, 0)), groups)
    )

    weight = np.concatenate([one.reshape(8, 4 // groups, -1) for one in (square, row, column)], 2)
    depthwise = np.zeros((15, 3, 3))
    centre_row, centre_column = [(1, 0), (1, 1), (1, 2)], [(0, 1), (1, 1), (2, 1)]
    for slot, position in enumerate([*np.ndindex(3, 3), *centre_row, *centre_column]):
        depthwise[(slot, *position)] = 1
    spec = Spec(4, 8, (3, 3), groups, 15)
    delta = np.broadcast_to(depthwise - identity(spec), spec.delta_shape)

    window = Window((3, 3), stride, 1)
    found = convolve(x, fold(weight, delta, groups), window, groups)
    assert_close(found, expected)
    assert_close(convolve_features(x, weight, delta, spec, window), expected)
