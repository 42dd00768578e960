"""`folded_weights`: what the plain model of the same architecture takes."""

import keras
import numpy as np
import pytest

from do_conv import DOConvError
from do_conv.tf import (
    DepthwiseSeparableConv2D,
    DOConv1D,
    DOConv2D,
    DOConv2DTranspose,
    DODepthwiseConv2D,
    folded_weights,
)

OURS = {
    "Conv1D": DOConv1D,
    "Conv2D": DOConv2D,
    "Conv2DTranspose": DOConv2DTranspose,
    "DepthwiseConv2D": DODepthwiseConv2D,
    "SeparableConv2D": DepthwiseSeparableConv2D,
}
PLAIN = {name: getattr(keras.layers, name) for name in OURS}


def numbers(tensor):
    return np.array(keras.ops.convert_to_numpy(tensor))


class Block(keras.layers.Layer):
    """A layer that holds others, and a variable of its own."""

    def __init__(self, layers):
        super().__init__()
        self.inner = layers["Conv2D"](4, 3, padding="same")
        self.others = [keras.layers.BatchNormalization(), layers["DepthwiseConv2D"](2)]

    def build(self, input_shape):
        self.scale = self.add_weight(shape=(4,), initializer="ones", name="scale")
        self.inner.build(input_shape)
        self.others[0].build((*input_shape[:-1], 4))
        self.others[1].build((*input_shape[:-1], 4))

    def call(self, inputs):
        outputs = self.inner(inputs) * self.scale
        return self.others[1](self.others[0](outputs))


def network(layers):
    """Shared, wrapped and nested layers, and a trained and a counted variable between them."""
    inputs = keras.Input((8, 8, 4))
    shared = layers["Conv2D"](4, 3, padding="same", use_bias=False)
    outputs = shared(keras.layers.BatchNormalization()(shared(inputs)))
    outputs = Block(layers)(outputs)
    wrapped = keras.layers.TimeDistributed(layers["Conv1D"](4, 3))
    outputs = wrapped(outputs)
    nested = keras.Sequential(
        [
            layers["Conv2DTranspose"](4, 2, strides=2),
            keras.layers.BatchNormalization(),
            layers["SeparableConv2D"](3, 3),
        ]
    )
    return keras.Model(inputs, keras.layers.Dense(2)(nested(outputs)))


def shaken(model):
    random = np.random.default_rng(1)
    for variable in model.weights:
        variable.assign(0.2 + 0.2 * random.random(tuple(variable.shape)))
    return model


def an_input():
    return np.random.default_rng(0).standard_normal((2, 8, 8, 4)).astype("float32")


def test_the_plain_model_takes_them_and_gives_the_same_output():
    model, plain = shaken(network(OURS)), network(PLAIN)
    before = numbers(plain(an_input()))
    plain.set_weights(folded_weights(model))
    expected = numbers(model(an_input()))
    assert abs(before - expected).max() > 0.1 * abs(expected).max()
    error = abs(numbers(plain(an_input())) - expected).max()
    assert error < 1e-5 * abs(expected).max()


@pytest.mark.parametrize("is_trainable", [True, False])
def test_a_bare_layer_and_one_that_is_frozen(is_trainable):
    layer = DOConv2D(4, 3, d_mul=11, trainable=is_trainable)
    layer.build((None, 8, 8, 4))
    shaken(layer)
    kernel, bias = folded_weights(layer)
    np.testing.assert_array_equal(kernel, numbers(layer.composed_kernel()))
    np.testing.assert_array_equal(bias, numbers(layer.bias))


def test_what_is_frozen_stays_so_in_the_plain_layer():
    layer = DOConv2D(4, 3)
    layer.build((None, 8, 8, 4))
    layer.kernel.trainable = False
    folded = layer.fold()
    assert [variable.trainable for variable in (folded.kernel, folded.bias)] == [False, True]


def test_a_lora_is_in_the_kernel():
    layer = DOConv2D(4, 3, lora_rank=2)
    layer.build((None, 8, 8, 4))
    shaken(layer)
    assert len(layer.weights) == 5
    kernel, _ = folded_weights(layer)
    np.testing.assert_array_equal(kernel, numbers(layer.composed_kernel()))


def test_they_do_not_change_with_the_model():
    model = keras.Sequential([keras.Input((8, 8, 4)), DOConv2D(4, 1), keras.layers.Dense(2)])
    weights = folded_weights(model)
    before = [value.copy() for value in weights]
    model.compile(keras.optimizers.SGD(0.5), "mse")
    model.fit(an_input(), np.ones((2, 8, 8, 2)), verbose=0)
    assert abs(folded_weights(model)[0] - before[0]).max() > 0
    for new, old in zip(weights, before, strict=True):
        np.testing.assert_array_equal(new, old)


def test_what_is_not_finite_is_refused():
    model = network(OURS)
    variable = next(v for v in model.weights if v.name == "depthwise_delta")
    variable.assign(np.full(tuple(variable.shape), np.inf))
    with pytest.raises(DOConvError, match="kernel must be finite to be folded"):
        folded_weights(model)
    assert not np.isfinite(folded_weights(model, check_finite=False)[0]).all()


def test_a_layer_that_has_seen_no_input_is_refused():
    with pytest.raises(DOConvError, match="layer 'new' without parameters"):
        folded_weights(keras.Sequential([DOConv2D(4, 3, name="new")]))
