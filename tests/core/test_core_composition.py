"""Kernel composition against the formula written out as loops, its gradients, and folding."""

import math

import numpy as np
import pytest

from do_conv import DOConvError, Spec, compose, compose_gradients, fold, identity, identity_part
from do_conv.core.starts import delta_start

KERNELS = [(3,), (2, 3), (2, 1, 2)]
# Whole identity blocks in D_mul, and slots after them.
MULTIPLIERS = [(1, 0), (1, 1), (2, 0), (2, 1), (3, 2)]
GROUPS = [1, 2, 3, 6]
SPECS = [
    pytest.param(
        Spec(6, 12, kernel, groups, math.prod(kernel) * blocks + rest),
        id=f"K{'x'.join(map(str, kernel))}-G{groups}-D{math.prod(kernel) * blocks + rest}",
    )
    for kernel in KERNELS
    for groups in GROUPS
    for blocks, rest in MULTIPLIERS
]


def arrays(spec: Spec, seed: int = 0, dtype: str = "float64"):
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal(spec.weight_shape).astype(dtype)
    return weight, rng.standard_normal(spec.delta_shape).astype(dtype)


def loop_compose(weight: np.ndarray, delta: np.ndarray, groups: int) -> np.ndarray:
    """W'[o, c, k] = sum_s W[o, c, s] D[i, s, k], one product at a time."""
    c_out, per_group = weight.shape[:2]
    d_mul, kernel = delta.shape[1], delta.shape[2:]
    area = math.prod(kernel)
    slots, flat = weight.reshape(c_out, per_group, d_mul), delta.reshape(-1, d_mul, area)
    out = np.zeros((c_out, per_group, area))
    for o, c, s, k in np.ndindex(c_out, per_group, d_mul, area):
        i = (o // (c_out // groups)) * per_group + c
        on_identity = s % area == k and s < area * (d_mul // area)
        out[o, c, k] += slots[o, c, s] * (on_identity + flat[i, s, k])
    return out.reshape(c_out, per_group, *kernel)


def assert_close(actual, expected, tolerance=1e-13):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("spec", SPECS)
def test_smoke_compose_is_the_formula(spec):
    weight, delta = arrays(spec)
    composed = compose(weight, delta, spec.groups)
    assert composed.shape == spec.composed_shape
    assert_close(composed, loop_compose(weight, delta, spec.groups))


@pytest.mark.parametrize("groups", [1, 2])
def test_default_weight_may_be_stored_with_one_axis_of_slots(groups):
    spec = Spec(4, 6, (2, 3), groups)
    weight, delta = arrays(spec)
    slots = weight.reshape(*weight.shape[:2], spec.area)
    np.testing.assert_array_equal(compose(slots, delta, groups), compose(weight, delta, groups))
    grad = np.ones(spec.composed_shape)
    grad_slots, grad_weight = (
        compose_gradients(grad, one, delta, groups)[0] for one in (slots, weight)
    )
    assert grad_slots.shape == slots.shape
    np.testing.assert_array_equal(grad_slots.ravel(), grad_weight.ravel())


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_identity_start_is_the_weight_to_the_last_bit(kernel, groups, dtype):
    spec = Spec(6, 12, kernel, groups)
    weight, delta = arrays(spec, dtype=dtype)
    composed = compose(weight, np.zeros_like(delta), groups)
    assert composed.dtype == dtype
    np.testing.assert_array_equal(composed, weight)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("d_mul", [8, 11])
def test_identity_start_sums_whole_blocks_and_nothing_else(d_mul, dtype):
    spec = Spec(4, 6, (2, 2), 2, d_mul)
    weight, delta = arrays(spec, dtype=dtype)
    expected = (weight[:, :, 0:4] + weight[:, :, 4:8]).reshape(6, 2, 2, 2)
    np.testing.assert_array_equal(compose(weight, np.zeros_like(delta), 2), expected)
    np.testing.assert_array_equal(identity_part(weight, spec), expected)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("d_mul", [4, 9])
def test_dtype_is_kept(d_mul, dtype):
    spec = Spec(2, 2, (2, 2), 1, d_mul)
    weight, delta = arrays(spec, dtype=dtype)
    results = (
        compose(weight, delta),
        fold(weight, delta),
        *compose_gradients(np.ones(spec.composed_shape, dtype), weight, delta),
    )
    assert [result.dtype for result in results] == [dtype] * 4


def test_a_change_too_small_to_be_seen_beside_one_survives():
    tiny = np.float16(2**-13)
    assert np.float16(1) + tiny == 1
    # The two blocks cancel, so all that is left of W' is what D' changed.
    weight = np.array([1, 0, -1, 0], "float16").reshape(1, 1, 4)
    delta = np.zeros((1, 4, 2), "float16")
    delta[0, 0, 0] = tiny
    np.testing.assert_array_equal(compose(weight, delta), [[[tiny, 0]]])


@pytest.mark.parametrize(
    ("d_mul", "rows"),
    [(4, "abcd"), (6, "abcd--"), (8, "abcdabcd"), (11, "abcdabcd---")],
)
def test_identity_written_out_by_hand(d_mul, rows):
    one_hot = {
        "a": [[1, 0], [0, 0]],
        "b": [[0, 1], [0, 0]],
        "c": [[0, 0], [1, 0]],
        "d": [[0, 0], [0, 1]],
        "-": [[0, 0], [0, 0]],
    }
    by_hand = [one_hot[row] for row in rows]
    spec = Spec(3, 5, (2, 2), 1, d_mul)
    np.testing.assert_array_equal(identity(spec), by_hand)
    he = delta_start("he", spec)
    # D itself has mean zero, so D' = D - I has mean -I.
    np.testing.assert_array_equal(he.mean, np.negative(by_hand))
    assert he.std == pytest.approx(0.5**0.5, rel=1e-15)


@pytest.mark.parametrize(("kernel", "std"), [((2,), 1.0), ((2, 4), 0.5), ((2, 4, 4), 0.25)])
def test_he_start_is_scaled_by_the_kernel_not_by_d_mul(kernel, std):
    for d_mul in (None, 40):
        start = delta_start("he", Spec(3, 3, kernel, 1, d_mul))
        assert start.std == pytest.approx(std, rel=1e-15)


def test_identity_start_of_delta_is_zero():
    start = delta_start("identity", Spec(3, 3, (2, 2), 1, 6))
    assert start.mean.shape == (6, 2, 2)
    assert not start.mean.any()
    assert start.std == 0


@pytest.mark.parametrize("name", ["zeros", "He", None, ["he"]])
def test_exception_unknown_start(name):
    with pytest.raises(DOConvError, match=r"unknown depthwise_init .*; .*choose from identity, he"):
        delta_start(name, Spec(3, 3, (2, 2)))


@pytest.mark.parametrize("spec", SPECS)
def test_gradients_are_the_adjoint(spec):
    weight, delta = arrays(spec)
    other_weight, other_delta = arrays(spec, seed=1)
    grad = np.random.default_rng(2).standard_normal(spec.composed_shape)
    grad_weight, grad_delta = compose_gradients(grad, weight, delta, spec.groups)
    assert (grad_weight.shape, grad_delta.shape) == (spec.weight_shape, spec.delta_shape)
    change = loop_compose(weight, other_delta, spec.groups) - loop_compose(
        weight, np.zeros_like(delta), spec.groups
    )
    scale = np.linalg.norm(grad) * np.linalg.norm(other_weight) * np.linalg.norm(other_delta)
    through_weight = np.vdot(grad, loop_compose(other_weight, delta, spec.groups))
    assert abs(np.vdot(grad_weight, other_weight) - through_weight) < 1e-13 * scale
    assert abs(np.vdot(grad_delta, other_delta) - np.vdot(grad, change)) < 1e-13 * scale


@pytest.mark.parametrize("d_mul", [4, 5, 8, 10])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_gradients_element_by_element(groups, d_mul):
    spec = Spec(4, 4, (2, 2), groups, d_mul)
    weight, delta = arrays(spec)
    grad = np.random.default_rng(2).standard_normal(spec.composed_shape)

    def derivatives(array, loss):
        """Complex steps: no difference is taken, so no digits are lost."""
        found = np.empty_like(array)
        for index in np.ndindex(array.shape):
            step = array.astype(complex)
            step[index] += 1e-30j
            found[index] = loss(step).imag / 1e-30
        return found

    grad_weight, grad_delta = compose_gradients(grad, weight, delta, groups)
    by_weight = derivatives(weight, lambda one: (grad * compose(one, delta, groups)).sum())
    by_delta = derivatives(delta, lambda one: (grad * compose(weight, one, groups)).sum())
    assert_close(grad_weight, by_weight)
    assert_close(grad_delta, by_delta)


@pytest.mark.parametrize("start", ["identity", "random", "none"])
def test_fold_returns_a_new_array(start):
    spec = Spec(4, 6, (1, 1) if start == "none" else (2, 2), 2)
    weight, delta = arrays(spec)
    delta = {"identity": 0 * delta, "random": delta, "none": None}[start]
    before = weight.copy()
    folded = fold(weight, delta, 2)
    np.testing.assert_array_equal(folded, compose(weight, delta, 2))
    folded += 1
    np.testing.assert_array_equal(weight, before)


# Infinity minus infinity is NaN, and NumPy warns of it.
@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["weight", "delta", "weight without delta"])
def test_exception_fold_refuses_what_is_not_finite(where, bad):
    weight, delta = arrays(Spec(2, 3, (1, 1) if where.endswith("without delta") else (2, 2)))
    delta = None if where.endswith("without delta") else delta
    (delta if where == "delta" else weight)[0, 1, 0, 0] = bad
    rule = "the composed kernel must be finite to be folded; received NaN or infinite .*check_fin"
    with pytest.raises(DOConvError, match=rule):
        fold(weight, delta)
    folded = fold(weight, delta, check_finite=False)
    assert folded.shape == weight.shape
    assert not np.isfinite(folded).all()
    assert np.isfinite(folded[:, 1 if where == "delta" else 0]).all()


@pytest.mark.parametrize("function", [compose, fold, lambda w, d, g: compose_gradients(w, w, d, g)])
@pytest.mark.parametrize(
    ("weight", "delta", "groups"),
    [((4, 2, 2, 2), (2, 4, 2, 2), 2), ((4, 2, 5), (2, 4, 2, 2), 1), ((4, 2, 2, 2), (2, 4, 4), 1)],
)
def test_exception_shapes_of_different_layers(function, weight, delta, groups):
    with pytest.raises(DOConvError, match=r"delta.*received weight \(4, 2, .* and delta|groups="):
        function(np.zeros(weight), np.zeros(delta), groups)


def test_exception_a_gradient_of_another_shape():
    weight, delta = np.ones((4, 3, 2, 2)), np.zeros((3, 4, 2, 2))
    with pytest.raises(
        DOConvError, match=r"must have shape \(4, 3, 2, 2\); received .*\(4, 3, 4\)"
    ):
        compose_gradients(np.ones((4, 3, 4)), weight, delta)


@pytest.mark.parametrize(
    ("weight", "delta"),
    [
        ((8, 3, 2, 3), (3, 6, 3, 2)),
        ((8, 3, 6, 3), (3, 18, 3, 3)),
        ((8, 3, 8, 3), (3, 24, 3, 3)),
        ((8, 3, 2), (3, 2, 1, 1)),
    ],
)
def test_exception_a_weight_of_another_kernel(weight, delta):
    with pytest.raises(DOConvError, match=r"must be groups times .*; received weight .*; check"):
        compose(np.ones(weight), np.zeros(delta))
