"""Training: W and D' move, each under its own penalty and constraint, and LoRA."""

import keras
import numpy as np
import pytest

from do_conv.tf import DOConv1D, DOConv2D, DOConv2DTranspose, DODepthwiseConv2D

LAYERS = [
    (DOConv1D, {"filters": 4, "kernel_size": 3}),
    (DOConv2D, {"filters": 4, "kernel_size": 2, "groups": 2, "d_mul": 9}),
    (DODepthwiseConv2D, {"kernel_size": 2, "depth_multiplier": 2}),
]
TRANSPOSED = (DOConv2DTranspose, {"filters": 2, "kernel_size": 2})
CONV, DEPTHWISE = (DOConv2D, {"filters": 4, "kernel_size": 2}), LAYERS[2]


def numbers(tensor):
    return np.array(keras.ops.convert_to_numpy(tensor), copy=True)


def an_input(layer):
    shape = (4, *[4] * layer.rank, 4)
    return np.random.default_rng(0).standard_normal(shape).astype("float32")


def started(layer_class, arguments, *, random_delta=False, **more):
    keras.utils.set_random_seed(5)
    layer = layer_class(**arguments, **more)
    layer.build(an_input(layer).shape)
    if random_delta:
        delta = np.random.default_rng(1).standard_normal(tuple(layer.depthwise_delta.shape))
        layer.depthwise_delta.assign(0.3 * delta)
    return layer


def fit_one_step(layer, rate=0.5):
    x = an_input(layer)
    model = keras.Sequential([keras.Input(x.shape[1:]), layer, keras.layers.Flatten()])
    model.compile(keras.optimizers.SGD(rate), "mse")
    target = np.random.default_rng(2).standard_normal((4, model.output_shape[1]))
    model.fit(x, target, batch_size=4, epochs=1, verbose=0)
    return model


@pytest.mark.parametrize(("layer_class", "arguments"), LAYERS)
def test_a_step_moves_both_kernels_alike_under_both_compositions(layer_class, arguments):
    steps = {}
    for composition in ("kernel", "feature"):
        layer = started(layer_class, arguments, random_delta=True, composition=composition)
        before = [numbers(layer.kernel), numbers(layer.depthwise_delta)]
        fit_one_step(layer)
        after = [numbers(layer.kernel), numbers(layer.depthwise_delta)]
        steps[composition] = [new - old for old, new in zip(before, after, strict=True)]
    for kernel, feature in zip(*steps.values(), strict=True):
        assert abs(kernel).max() > 1e-3
        # A sum of some dozen float32 products, in another order.
        np.testing.assert_allclose(kernel, feature, rtol=0, atol=1e-5 * abs(kernel).max() + 1e-6)


@pytest.mark.parametrize(("layer_class", "arguments"), [CONV, TRANSPOSED])
def test_a_step_moves_the_delta_from_its_identity_start(layer_class, arguments):
    layer = started(layer_class, arguments)
    assert abs(numbers(layer.depthwise_delta)).max() == 0
    fit_one_step(layer)
    assert abs(numbers(layer.depthwise_delta)).max() > 1e-3


def argument(layer_class, what):
    return f"depthwise_{what}" if layer_class is DODepthwiseConv2D else f"kernel_{what}"


@pytest.mark.parametrize(("layer_class", "arguments"), [CONV, LAYERS[1], DEPTHWISE, TRANSPOSED])
def test_each_penalty_is_on_its_own_kernel(layer_class, arguments):
    of_kernel = {argument(layer_class, "regularizer"): keras.regularizers.L2(0.5)}
    of_delta = {"delta_regularizer": keras.regularizers.L2(0.25)}
    for given, weigh in ((of_kernel, (0.5, 0)), (of_delta, (0, 0.25)), ({}, (0, 0))):
        layer = started(layer_class, arguments, random_delta=True, **given)
        squares = [(numbers(v) ** 2).sum() for v in (layer.kernel, layer.depthwise_delta)]
        assert min(squares) > 0.1
        assert len(layer.losses) == len(given)
        total = sum(float(numbers(loss)) for loss in layer.losses)
        np.testing.assert_allclose(total, np.dot(weigh, squares), rtol=1e-6)


def test_the_penalty_of_an_identity_start_is_zero():
    layer = started(*CONV, delta_regularizer="l2")
    assert [float(numbers(loss)) for loss in layer.losses] == [0]


@pytest.mark.parametrize(("layer_class", "arguments"), [CONV, DEPTHWISE, TRANSPOSED])
@pytest.mark.parametrize("constrained", ["kernel", "depthwise_delta"])
def test_each_constraint_is_on_its_own_kernel(layer_class, arguments, constrained):
    name = argument(layer_class, "constraint") if constrained == "kernel" else "delta_constraint"
    layer = started(layer_class, arguments, **{name: "non_neg"})
    fit_one_step(layer)
    lowest = {v: numbers(getattr(layer, v)).min() for v in ("kernel", "depthwise_delta")}
    assert lowest.pop(constrained) >= 0
    assert min(lowest.values()) < 0


def test_a_layer_that_is_not_trainable_stays():
    layer = started(*CONV, trainable=False)
    before = layer.get_weights()
    assert layer.trainable_weights == []
    assert len(layer.non_trainable_weights) == 3
    model = keras.Sequential([keras.Input((4, 4, 4)), layer, keras.layers.Conv2D(1, 3)])
    model.compile(keras.optimizers.SGD(0.5), "mse")
    model.fit(an_input(layer), np.ones((4, 1, 1, 1)), verbose=0)
    for old, new in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def with_lora(policy="float32", **more):
    """A built layer and its output before and after LoRA was enabled."""
    layer = started(*CONV, random_delta=True, dtype=policy, **more)
    x = an_input(layer)
    before = numbers(layer(x))
    layer.enable_lora(2)
    return layer, before, numbers(layer(x))


def variable(layer, name):
    (found,) = [v for v in layer.weights if v.name == name]
    return found


@pytest.mark.parametrize("composition", ["kernel", "feature"])
@pytest.mark.parametrize("policy", ["float32", "float64"])
def test_lora_starts_with_the_same_output(policy, composition):
    layer, before, after = with_lora(policy, composition=composition)
    assert abs(before).max() > 0.1
    np.testing.assert_array_equal(after, before)
    assert len(layer.weights) == 5


@pytest.mark.parametrize("given", ["enabled", "argument"])
def test_lora_trains_in_place_of_the_kernel(given):
    layer = with_lora()[0] if given == "enabled" else started(*CONV, lora_rank=2)
    names = ("kernel", "lora_kernel_b")
    before = {name: numbers(variable(layer, name)) for name in names}
    fit_one_step(layer)
    moved = {name: abs(numbers(variable(layer, name)) - before[name]).max() for name in names}
    assert moved["kernel"] == 0
    assert moved["lora_kernel_b"] > 1e-4


@pytest.mark.parametrize("given", ["enabled", "argument"])
def test_lora_freezes_the_delta_with_the_kernel(given):
    layer = with_lora()[0] if given == "enabled" else started(*CONV, lora_rank=2)
    trained = {v.name for v in layer.trainable_weights}
    assert trained == {"bias", "lora_kernel_a", "lora_kernel_b"}


@pytest.mark.parametrize(("alpha", "scale"), [(None, 1), (6, 3)])
def test_a_lora_that_is_asked_for_has_its_strength(alpha, scale):
    layer = started(*CONV, lora_rank=2, lora_alpha=alpha)
    layer.lora_kernel_b.assign(keras.ops.ones(layer.lora_kernel_b.shape))
    low_rank = numbers(layer.lora_kernel_a) @ numbers(layer.lora_kernel_b)
    expected = numbers(variable(layer, "kernel")) + scale * low_rank
    np.testing.assert_allclose(numbers(layer.kernel), expected, rtol=0, atol=1e-6)


def test_lora_is_folded_and_saved_with_the_layer(tmp_path):
    layer, before, _ = with_lora()
    random = np.random.default_rng(3)
    for name in ("lora_kernel_a", "lora_kernel_b"):
        shape = tuple(variable(layer, name).shape)
        variable(layer, name).assign(0.5 * random.standard_normal(shape))
    x = an_input(layer)
    expected = numbers(layer(x))
    assert abs(expected - before).max() > 0.1
    np.testing.assert_allclose(numbers(layer.fold()(x)), expected, rtol=0, atol=2e-6)
    keras.Sequential([keras.Input(x.shape[1:]), layer]).save(tmp_path / "lora.keras")
    again = keras.models.load_model(tmp_path / "lora.keras").layers[0]
    assert (again.lora_rank, again.lora_enabled) == (2, True)
    np.testing.assert_allclose(numbers(again(x)), expected, rtol=0, atol=2e-6)


def test_spectral_normalisation_bounds_w_and_not_the_kernel_that_is_applied():
    layer = started(DOConv2D, {"filters": 8, "kernel_size": 3}, depthwise_init="he")
    wrapper = keras.layers.SpectralNormalization(layer, power_iterations=50)
    wrapper(an_input(layer), training=True)
    sigma = [
        np.linalg.norm(numbers(kernel).reshape(-1, 8), 2)
        for kernel in (layer.kernel, layer.composed_kernel())
    ]
    assert sigma[0] == pytest.approx(1, abs=1e-3)
    assert sigma[1] > 1.2


def test_a_lora_trains_again_after_a_file_was_loaded(tmp_path):
    """A file has the low-rank product merged into W, so what is added to W starts at zero."""
    layer, _, expected = with_lora()
    x, file = an_input(layer), tmp_path / "layer.weights.h5"
    model = keras.Sequential([keras.Input(x.shape[1:]), layer])
    model.save_weights(file)
    model.load_weights(file)
    np.testing.assert_allclose(numbers(layer(x)), expected, rtol=0, atol=2e-6)
    before = numbers(variable(layer, "lora_kernel_b"))
    fit_one_step(layer)
    assert abs(numbers(variable(layer, "lora_kernel_b")) - before).max() > 1e-4


class OfFilters:
    """Sets each filter to its own norm, and adds up the filters' norms."""

    @staticmethod
    def norms(kernel):
        axes = tuple(range(kernel.ndim - 1))
        return keras.ops.sqrt(keras.ops.sum(keras.ops.square(kernel), axis=axes, keepdims=True))

    def project(self, kernel):
        return kernel / self.norms(kernel)

    def penalise(self, kernel):
        return keras.ops.sum(self.norms(kernel))


@pytest.mark.parametrize("d_mul", [None, 11])
@pytest.mark.parametrize("layer_class", [DOConv1D, DOConv2D])
def test_functions_of_a_filter_see_one_in_w(layer_class, d_mul):
    of_filters, seen = OfFilters(), []

    def start(shape, dtype=None):
        seen.append(len(shape))
        return keras.initializers.GlorotUniform(0)(shape, dtype)

    layer = layer_class(
        4, 3, d_mul=d_mul, kernel_initializer=start,
        kernel_constraint=of_filters.project, kernel_regularizer=of_filters.penalise,
    )  # fmt: skip
    layer.build(an_input(layer).shape)
    assert seen == [layer.rank + 2]
    each = np.sqrt((numbers(layer.kernel).reshape(-1, 4) ** 2).sum(0))
    (penalty,) = layer.losses
    np.testing.assert_allclose(numbers(penalty), each.sum(), rtol=1e-6)
    fit_one_step(layer)
    each = np.sqrt((numbers(layer.kernel).reshape(-1, 4) ** 2).sum(0))
    np.testing.assert_allclose(each, 1, rtol=1e-6)
