"""Folding: a layer becomes the plain Keras layer that does the same."""

import re

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
    fold,
    folded_weights,
)

SIZES = {1: (9,), 2: (7, 8), 3: (5, 6, 5)}
CASES = [
    (DOConv1D, {"filters": 4, "kernel_size": 3}),
    (DOConv1D, {"filters": 4, "kernel_size": 3, "padding": "causal", "dilation_rate": 2}),
    (DOConv1D, {"filters": 4, "kernel_size": 3, "padding": "causal", "strides": 2, "groups": 2}),
    (DOConv1D, {"filters": 4, "kernel_size": 1, "d_mul": 3}),
    (DOConv2D, {"filters": 6, "kernel_size": (2, 3), "strides": (2, 1), "padding": "same"}),
    (DOConv2D, {"filters": 6, "kernel_size": 3, "groups": 2, "activation": "relu"}),
    (DOConv2D, {"filters": 6, "kernel_size": 3, "dilation_rate": 2, "use_bias": False}),
    (DOConv2D, {"filters": 4, "kernel_size": 3, "d_mul": 20, "groups": 4, "padding": "same"}),
    (DOConv3D, {"filters": 4, "kernel_size": 2, "strides": 2, "d_mul": 11}),
    (DODepthwiseConv2D, {"kernel_size": 3, "depth_multiplier": 2, "padding": "same"}),
    (DODepthwiseConv2D, {"kernel_size": 3, "strides": 2, "d_mul": 13, "activation": "relu"}),
    (DODepthwiseConv2D, {"kernel_size": (2, 3), "use_bias": False, "dilation_rate": 2}),
    (DOConv1DTranspose, {"filters": 6, "kernel_size": 3, "strides": 3, "output_padding": 1}),
    (DOConv2DTranspose, {"filters": 6, "kernel_size": (2, 3), "strides": 2, "padding": "same"}),
    (DOConv2DTranspose, {"filters": 6, "kernel_size": 2, "d_mul": 6, "activation": "relu"}),
    (DOConv3DTranspose, {"filters": 2, "kernel_size": 2, "use_bias": False}),
]


def plain_class(layer):
    return getattr(keras.layers, type(layer).__name__.removeprefix("DO"))


def numbers(tensor):
    return keras.ops.convert_to_numpy(tensor)


def an_input(layer, channels=4):
    shape = (2, *SIZES[layer.rank], channels)
    return np.random.default_rng(0).standard_normal(shape).astype("float32")


def trained(layer_class, arguments, **more):
    """A built layer whose parameters have all moved from their start."""
    # Drawing a start that is overwritten at once would take most of the time.
    start = "depthwise_initializer" if layer_class is DODepthwiseConv2D else "kernel_initializer"
    layer = layer_class(**{start: "zeros", **arguments, **more})
    layer.build(an_input(layer).shape)
    random = np.random.default_rng(1)
    for variable in layer.weights:
        variable.assign(0.3 * random.standard_normal(tuple(variable.shape)))
    return layer


@pytest.mark.parametrize(
    ("layer_class", "arguments", "dtype", "tolerance"),
    [(*case, "float32", 1e-6) for case in CASES]
    + [(*case, "float64", 1e-15) for case in CASES[1::4]],
)
def test_gives_the_same_output(layer_class, arguments, dtype, tolerance):
    layer = trained(layer_class, arguments, dtype=dtype)
    x = an_input(layer)
    expected, found = numbers(layer(x)), numbers(layer.fold()(x))
    assert abs(expected).max() > 0.5
    assert found.dtype == dtype
    assert abs(found - expected).max() <= tolerance * abs(expected).max()


@pytest.mark.parametrize("policy", ["bfloat16", "mixed_bfloat16"])
def test_gives_the_same_output_in_low_precision(policy):
    layer = trained(*CASES[5], dtype=policy)
    x = an_input(layer)
    np.testing.assert_array_equal(numbers(layer.fold()(x)), numbers(layer(x)))


@pytest.mark.parametrize(("layer_class", "arguments"), CASES)
def test_holds_what_composed_kernel_says(layer_class, arguments):
    layer = trained(layer_class, arguments)
    folded = layer.fold()
    assert [v.name for v in folded.weights] == (
        ["kernel", "bias"] if layer.use_bias else ["kernel"]
    )
    assert tuple(folded.kernel.shape) == tuple(layer.composed_kernel().shape)
    np.testing.assert_array_equal(numbers(folded.kernel), numbers(layer.composed_kernel()))
    if layer.depthwise_delta is not None:
        weight = numbers(layer.kernel)
        same = weight.shape == tuple(folded.kernel.shape)
        assert not same or abs(weight - numbers(folded.kernel)).max() > 0.1


@pytest.mark.parametrize(("layer_class", "arguments"), CASES)
def test_is_exactly_the_plain_layer(layer_class, arguments):
    layer = trained(layer_class, arguments, name="seventh")
    folded = layer.fold()
    arguments = {key: value for key, value in arguments.items() if key != "d_mul"}
    start = "depthwise_initializer" if layer_class is DODepthwiseConv2D else "kernel_initializer"
    plain = plain_class(layer)(**{start: "zeros"}, **arguments, name="seventh")
    assert type(folded) is plain_class(layer)
    assert folded.name == "seventh"
    assert folded.built
    assert folded.get_config() == plain.get_config()


def test_keeps_every_argument_of_the_plain_layer():
    arguments = {
        "filters": 4,
        "kernel_size": 3,
        "kernel_initializer": "he_normal",
        "kernel_regularizer": "l2",
        "bias_regularizer": "l1",
        "activity_regularizer": "l2",
        "kernel_constraint": "non_neg",
        "bias_constraint": "unit_norm",
        "name": "layer",
    }
    layer = trained(DOConv2D, arguments, delta_regularizer="l2", delta_constraint="non_neg")
    layer.composition = "feature"
    assert layer.fold().get_config() == keras.layers.Conv2D(**arguments).get_config()


@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize("when", ["made", "later"])
def test_keeps_the_trainable_flag(trainable, when):
    made = trainable if when == "made" else not trainable
    layer = trained(*CASES[4], trainable=made)
    layer.trainable = trainable
    folded = layer.fold()
    assert folded.trainable is trainable
    assert len(folded.trainable_weights) == 2 * trainable


def fit_some(layer):
    """Train the layer, with which some backends give its old buffers away."""
    x = an_input(layer)
    model = keras.Sequential([keras.Input(x.shape[1:]), layer, keras.layers.Flatten()])
    model.compile(keras.optimizers.SGD(0.5), "mse")
    model.fit(x, np.ones((2, model.output_shape[1])), epochs=3, verbose=0)


@pytest.mark.parametrize("trains", ["layer", "folded"])
@pytest.mark.parametrize(
    ("layer_class", "kernel_size"), [(DOConv2D, 1), (DOConv2D, 3), (DODepthwiseConv2D, 1)]
)
def test_owns_its_memory(layer_class, kernel_size, trains):
    """A kernel of one position is W itself, where sharing would be easiest; so is the bias."""
    filters = {"filters": 64} if layer_class is DOConv2D else {}
    layer = trained(layer_class, {**filters, "kernel_size": kernel_size})
    folded = layer.fold()
    moving, resting = (layer, folded) if trains == "layer" else (folded, layer)
    before = [np.array(value, copy=True) for value in resting.get_weights()]
    moved = [np.array(value, copy=True) for value in moving.get_weights()]
    fit_some(moving)
    for old, new in zip(moved, moving.get_weights(), strict=True):
        assert abs(old - new).max() > 0
    for old, new in zip(before, resting.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("variable", "named"), [("kernel", "kernel"), ("depthwise_delta", "kernel"), ("bias", "bias")]
)
@pytest.mark.parametrize("case", [CASES[4], CASES[7], CASES[9]])
def test_refuses_what_is_not_finite(case, variable, named, value):
    layer = trained(*case)
    array = np.array(numbers(getattr(layer, variable)), copy=True)
    array.flat[-1] = value
    getattr(layer, variable).assign(array)
    pattern = f"{named} must be finite.*; received NaN or infinite values; .*check_finite=False"
    with pytest.raises(DOConvError, match=pattern):
        layer.fold()
    folded = layer.fold(check_finite=False)
    assert not np.isfinite(numbers(getattr(folded, named))).all()


def test_refuses_finite_parameters_with_an_infinite_product():
    layer = trained(*CASES[4])
    layer.kernel.assign(np.full(tuple(layer.kernel.shape), 1e30))
    layer.depthwise_delta.assign(np.full(tuple(layer.depthwise_delta.shape), 1e30))
    with pytest.raises(DOConvError, match="kernel must be finite"):
        layer.fold()


@pytest.mark.parametrize("layer", [DOConv2D(2, 3, name="new"), DODepthwiseConv2D(3, name="new")])
def test_refuses_a_layer_without_parameters(layer):
    received = re.escape("received layer 'new' without parameters")
    with pytest.raises(DOConvError, match=f"after its parameters were made; {received}; call it"):
        layer.fold()


class Padded(DOConv2D):
    def call(self, inputs):
        return super().call(keras.ops.pad(inputs, [[0, 0], [1, 1], [1, 1], [0, 0]], "reflect"))


class Standardised(DOConv2D):
    def convolution_op(self, inputs, kernel):
        return super().convolution_op(inputs, kernel - keras.ops.mean(kernel, keepdims=True))


class Scaled(DOConv2D):
    """A subclass with an argument of its own, and the forward pass of ours."""

    def __init__(self, *args, scale=1, **kwargs):
        super().__init__(*args, **kwargs)
        self.scale = scale

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}


FOLDS = {"layer": lambda model: model.layers[0].fold(), "model": fold, "weights": folded_weights}


@pytest.mark.parametrize("folding", FOLDS)
@pytest.mark.parametrize(("kind", "method"), [(Padded, "call"), (Standardised, "convolution_op")])
def test_folding_refuses_another_forward_pass(kind, method, folding):
    model = keras.Sequential([keras.Input((8, 8, 3)), kind(4, 3)])
    if (method, folding) == ("call", "weights"):
        assert len(folded_weights(model)) == 2  # for a plain layer with the same forward pass
        return
    with pytest.raises(DOConvError, match=rf"a {kind.__name__}, whose {method}\(\) is that of"):
        FOLDS[folding](model)


def test_a_subclass_with_an_argument_of_its_own():
    model = keras.Sequential([keras.Input((8, 8, 3)), Scaled(4, 3, scale=2)])
    for layer in (model.layers[0].fold(), fold(model).layers[0]):
        assert type(layer) is keras.layers.Conv2D


def test_folding_keeps_the_values_of_an_activation_that_is_a_layer():
    slopes = keras.layers.PReLU(shared_axes=[1, 2], name="slopes")
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), DOConv2D(4, 3, activation=slopes), keras.layers.Dense(2)]
    )
    x = np.random.default_rng(0).standard_normal((2, 8, 8, 3)).astype("float32")
    model(x)  # makes the slopes
    slopes.alpha.assign(np.full((1, 1, 4), 0.5))
    layer, folded = model.layers[0], model.layers[0].fold()
    np.testing.assert_allclose(numbers(folded(x)), numbers(layer(x)), rtol=1e-5, atol=1e-5)
    weights, plain = folded_weights(model), fold(model)
    plain(x)
    plain.set_weights([np.zeros_like(one) for one in weights])
    plain.set_weights(weights)
    np.testing.assert_allclose(numbers(plain(x)), numbers(model(x)), rtol=1e-5, atol=1e-5)
