"""A small network with kernels of every kind, and its training."""

import keras
import numpy as np
import pytest

KINDS = ("conv", "depthwise", "separable", "up")


def numbers(value):
    return np.array(keras.ops.convert_to_numpy(value), copy=True)


def layers_of(dtype):
    def of(kind, *given, **more):
        return getattr(keras.layers, kind)(*given, dtype=dtype, **more)

    return [
        of("Conv2D", 4, 2, groups=2, activation="tanh", name="conv"),
        of("DepthwiseConv2D", 2, depth_multiplier=2, name="depthwise"),
        of("SeparableConv2D", 4, 2, padding="same", activation="tanh", name="separable"),
        of("Conv2DTranspose", 2, 2, strides=2, name="up"),
        of("Flatten"),
        of("Dense", 2, name="dense"),
    ]


def network(dtype="float64", kinds=KINDS):
    """The network, or a part of it, with the same values in every call."""
    keras.utils.set_random_seed(1)
    layers = [one for one in layers_of(dtype) if one.name in kinds or one.name not in KINDS]
    return keras.Sequential([keras.Input((4, 4, 4), dtype=dtype), *layers])


class Subclassed(keras.Model):
    """The network, as a model that only its own code can call."""

    def __init__(self, dtype="float64"):
        super().__init__(dtype=dtype)
        self.parts = layers_of(dtype)

    def call(self, x):
        for part in self.parts:
            x = part(x)
        return x


def batches(count=4):
    random = np.random.default_rng(0)
    return random.standard_normal((4 * count, 4, 4, 4)), random.standard_normal((4 * count, 2))


def train(model, optimizer=None, epochs=5, count=4, **options):
    """Steps in the same order in every call, 20 of them."""
    if optimizer is not None:
        model.compile(optimizer, "mse", **options)
    x, y = batches(count)
    model.fit(x, y, batch_size=4, epochs=epochs, shuffle=False, verbose=0)
    return model


def apart(one, other):
    """The largest difference of two models' values; NaN if there is one."""
    pairs = zip(one.get_weights(), other.get_weights(), strict=True)
    return float(np.max([abs(a - b).max() for a, b in pairs]))


# Test files are not a package, so what they share comes as fixtures.
@pytest.fixture(name="network")
def network_fixture():
    return network


@pytest.fixture(name="subclassed")
def subclassed_fixture():
    return Subclassed


@pytest.fixture(name="train")
def train_fixture():
    return train


@pytest.fixture(name="apart")
def apart_fixture():
    return apart


@pytest.fixture(name="numbers")
def numbers_fixture():
    return numbers


@pytest.fixture(name="batches")
def batches_fixture():
    return batches
