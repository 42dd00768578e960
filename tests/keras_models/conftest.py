"""Networks that several files convert."""

import keras
import numpy as np
import pytest


def inner_sequential():
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Conv2DTranspose(4, 2, strides=2, name="up"),
            layers.BatchNormalization(name="norm"),
        ],
        name="sequential",
    )


def inner_functional():
    start = keras.Input((8, 8, 6), name="start")
    outputs = keras.layers.SeparableConv2D(4, 3, padding="same", name="separable")(start)
    return keras.Model(start, keras.layers.Conv2D(4, 1, name="pointwise")(outputs), name="inner")


def made():
    """Convolutions of several kinds, nested models, a shared layer, two inputs, two outputs."""
    first, second = keras.Input((8, 8, 3), name="one"), keras.Input((8, 8, 3), name="two")
    shared = keras.layers.Conv2D(6, 3, padding="same", use_bias=False, name="shared")
    joined = keras.ops.relu(shared(first)) + shared(second)
    joined = keras.layers.BatchNormalization(name="norm")(joined)
    joined = keras.layers.DepthwiseConv2D(3, padding="same", name="depthwise")(joined)
    nested = inner_functional()(joined)
    return keras.Model(
        [first, second], {"small": nested, "large": inner_sequential()(nested)}, name="whole"
    )


def shaken(model, seed=1):
    """The model with every variable, D' among them, as training might leave them."""
    random = np.random.default_rng(seed)
    for variable in model.weights:
        variable.assign(0.2 + 0.2 * random.random(tuple(variable.shape)))
    return model


def numbers(value):
    return [np.array(keras.ops.convert_to_numpy(one)) for one in keras.tree.flatten(value)]


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.fixture
def network():
    keras.utils.set_random_seed(0)
    return shaken(made())


@pytest.fixture
def x():
    random = np.random.default_rng(2)
    return [random.standard_normal((2, 8, 8, 3)).astype("float32") for _ in range(2)]


# Test files are not a package, so what they share comes as fixtures.
@pytest.fixture(name="shaken")
def shaken_fixture():
    return shaken


@pytest.fixture(name="numbers")
def numbers_fixture():
    return numbers


@pytest.fixture(name="same")
def same_fixture():
    return same
