"""The two compositions, unknown sizes, stateless calls and channels first."""

import keras
import numpy as np
import pytest

from do_conv import DOConvError
from do_conv.tf import (
    DOConv1D,
    DOConv1DTranspose,
    DOConv2D,
    DOConv2DTranspose,
    DOConv3D,
    DOConv3DTranspose,
    DODepthwiseConv2D,
)

# No output is as wide as it has channels: on tensorflow Keras's own layers would then add a
# channels-first bias along the width.
SIZES = {1: (11,), 2: (7, 10), 3: (5, 6, 5)}
CASES = [
    (DOConv1D, {"filters": 4, "kernel_size": 3, "strides": 2}),
    (DOConv1D, {"filters": 4, "kernel_size": 3, "padding": "causal", "dilation_rate": 2}),
    (DOConv2D, {"filters": 4, "kernel_size": (2, 3), "padding": "same", "groups": 2}),
    (DOConv2D, {"filters": 4, "kernel_size": 2, "d_mul": 9, "strides": 2}),
    (DOConv3D, {"filters": 4, "kernel_size": 2, "padding": "same", "use_bias": False}),
    (DODepthwiseConv2D, {"kernel_size": 2, "depth_multiplier": 2, "padding": "same"}),
    (DODepthwiseConv2D, {"kernel_size": (2, 3), "d_mul": 7, "dilation_rate": 2}),
]
TRANSPOSED = [
    (DOConv1DTranspose, {"filters": 3, "kernel_size": 2, "strides": 3}),
    (DOConv2DTranspose, {"filters": 3, "kernel_size": (2, 3), "strides": 2, "padding": "same"}),
    (DOConv3DTranspose, {"filters": 3, "kernel_size": 2, "d_mul": 9}),
]


def numbers(tensor):
    return keras.ops.convert_to_numpy(tensor)


def an_input(rank, dtype="float32"):
    return np.random.default_rng(0).standard_normal((2, *SIZES[rank], 4)).astype(dtype)


def trained(layer_class, arguments, **more):
    """A built layer whose parameters have all moved from their start."""
    start = "depthwise_initializer" if layer_class is DODepthwiseConv2D else "kernel_initializer"
    layer = layer_class(**{start: "zeros", **arguments, **more})
    layer.build((None, *[9] * layer.rank, 4))
    random = np.random.default_rng(1)
    for variable in layer.weights:
        variable.assign(0.3 * random.standard_normal(tuple(variable.shape)))
    return layer


@pytest.mark.parametrize(("layer_class", "arguments"), CASES)
def test_both_compositions_give_the_same_output(layer_class, arguments):
    layer = trained(layer_class, arguments, dtype="float64")
    x = an_input(layer.rank, "float64")
    by_kernel = numbers(layer(x))
    layer.composition = "feature"
    by_feature = numbers(layer(x))
    layer.composition = "kernel"
    assert abs(by_kernel).max() > 0.5
    assert abs(by_feature - by_kernel).max() < 1e-13 * abs(by_kernel).max()
    assert (by_feature != by_kernel).any(), "the same sums in the same order"
    np.testing.assert_array_equal(numbers(layer(x)), by_kernel)


@pytest.mark.parametrize("kernel_size", [1, 2])
def test_feature_composition_of_a_transposed_layer_is_refused_when_used(kernel_size):
    layer = trained(DOConv2DTranspose, {"filters": 4, "kernel_size": kernel_size})
    layer.composition = "feature"
    with pytest.raises(DOConvError, match=r"must be 'kernel'; received .*'feature'; leave it out"):
        layer(an_input(2))


@pytest.mark.parametrize("kernel_size", [1, 2])
def test_an_unknown_composition_set_later_is_refused_when_used(kernel_size):
    layer = trained(DOConv2D, {"filters": 4, "kernel_size": kernel_size})
    layer.composition = "features"
    with pytest.raises(DOConvError, match=r"unknown composition 'features'; did you mean feature"):
        layer(an_input(2))


@pytest.mark.parametrize(
    ("layer_class", "arguments", "composition"),
    [
        *[(*case, "kernel") for case in (CASES[1], CASES[2], TRANSPOSED[1])],
        *[(*case, "feature") for case in (CASES[1], CASES[2])],
    ],
)
def test_a_model_for_inputs_of_any_size(layer_class, arguments, composition):
    """A functional model made with no size known runs on each size as the layer itself does."""
    layer = trained(layer_class, arguments, composition=composition)
    inputs = keras.Input((*[None] * layer.rank, 4))
    model = keras.Model(inputs, layer(inputs))
    assert model.output_shape == (None, *[None] * layer.rank, layer.filters)
    for batch, size in ((1, 8), (3, 11)):
        shape = (batch, size, *[7] * (layer.rank - 1), 4)
        x = np.random.default_rng(2).standard_normal(shape).astype("float32")
        expected = numbers(layer.fold()(x))
        tolerance = 1e-5 * abs(expected).max()
        np.testing.assert_allclose(numbers(model(x)), expected, rtol=0, atol=tolerance)
        predicted = model.predict(x, verbose=0)
        np.testing.assert_allclose(predicted, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("composition", ["kernel", "feature"])
def test_a_stateless_call_uses_the_values_it_is_given(composition):
    layer = trained(*CASES[3], composition=composition)
    inputs = keras.Input((None, None, 4))
    model = keras.Model(inputs, layer(inputs))
    x, before = an_input(2), [np.array(value) for value in model.get_weights()]
    given = [keras.ops.convert_to_tensor(value + 1) for value in before]
    y, state = model.stateless_call(given, [], x)
    assert list(state) == []
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    model.set_weights([value + 1 for value in before])
    np.testing.assert_allclose(numbers(y), numbers(model(x)), rtol=1e-6)


@pytest.mark.parametrize(("layer_class", "arguments"), [*CASES, *TRANSPOSED])
def test_the_output_shape_is_the_plain_layers(layer_class, arguments):
    layer = trained(layer_class, arguments, dtype="float64")
    x = an_input(layer.rank)
    plain = {key: value for key, value in arguments.items() if key != "d_mul"}
    plain = getattr(keras.layers, layer_class.__name__.removeprefix("DO"))(**plain)
    assert layer.compute_output_shape(x.shape) == plain.compute_output_shape(x.shape)
    assert tuple(layer(x).shape) == tuple(plain.compute_output_shape(x.shape))


def channels_first_or_skip(layer, x):
    """The plain layer's output; on a CPU TensorFlow has few channels-first convolutions."""
    plain = layer.fold()
    if keras.backend.backend() != "tensorflow":
        return numbers(plain(x))
    from tensorflow import errors

    try:
        return numbers(plain(x))
    except (errors.UnimplementedError, errors.InvalidArgumentError) as error:
        name = type(plain).__name__
        return pytest.skip(f"TensorFlow has no channels-first {name} here: {type(error).__name__}")


@pytest.mark.parametrize(
    ("layer_class", "arguments", "composition"),
    [(*case, "kernel") for case in [*CASES, *TRANSPOSED]]
    + [(*case, "feature") for case in CASES[1:6:2]],
)
def test_channels_first(layer_class, arguments, composition):
    last = trained(layer_class, arguments, dtype="float64")
    first = layer_class(**arguments, data_format="channels_first", dtype="float64")
    first.composition = composition
    first.build((None, 4, *[9] * first.rank))
    first.set_weights(last.get_weights())
    x = an_input(last.rank, "float64")
    moved = np.moveaxis(x, -1, 1)
    plain = channels_first_or_skip(first, moved)
    found = numbers(first(moved))
    tolerance = 1e-13 * abs(plain).max()
    np.testing.assert_allclose(found, plain, rtol=0, atol=tolerance)
    np.testing.assert_allclose(np.moveaxis(found, 1, -1), numbers(last(x)), rtol=0, atol=tolerance)
