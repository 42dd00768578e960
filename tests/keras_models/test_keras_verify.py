"""`verify` of Keras models."""

import keras
import numpy as np
import pytest

from do_conv import DOConvError
from do_conv.tf import convert, fold, plan, verify


def test_the_difference_is_returned(network, x, shaken):
    converted = shaken(convert(network), seed=4)
    assert verify(network, convert(network), x) == 0
    assert verify(converted, fold(converted), x) < 1e-6
    nudged = convert(network)
    bias = nudged.get_layer("depthwise").bias
    bias.assign(keras.ops.convert_to_numpy(bias) + 1e-6)
    assert 0 < verify(network, nudged, x) < 1e-5


@pytest.mark.parametrize("training", [False, True])
def test_nothing_moves(network, x, numbers, same, training):
    state = numbers(network.variables)
    attributes = {layer.name: set(vars(layer)) for layer in network._flatten_layers()}
    verify(network, network, x, training=training)
    assert same(numbers(network.variables), state)
    assert {one.name: set(vars(one)) for one in network._flatten_layers()} == attributes


@pytest.mark.parametrize("training", [False, True])
def test_exception_in_a_call_moves_nothing(x, numbers, same, training):
    class Failing(keras.layers.Layer):
        fails = False

        def call(self, inputs):
            if self.fails:
                raise RuntimeError("this layer fails")
            return inputs

    layers = [keras.layers.BatchNormalization(), keras.layers.Conv2D(4, 3), Failing()]
    model = keras.Sequential([keras.Input((8, 8, 3)), *layers])
    state, kept = numbers(model.variables), [set(vars(layer)) for layer in layers]
    Failing.fails = True
    with pytest.raises(RuntimeError, match="this layer fails"):
        verify(model, model, x[0], training=training)
    assert same(numbers(model.variables), state)
    assert [set(vars(layer)) for layer in layers] == kept


def test_exception_the_layer_where_it_begins_is_named(network, x):
    other = convert(network)
    kernel = other.get_layer("inner").get_layer("separable").pointwise_kernel
    kernel.assign(2 * keras.ops.convert_to_numpy(kernel))
    match = r"within 1e-05 .* difference of \d\.\de[+-]0\d, which begins in layer 'inner/separable'"
    with pytest.raises(DOConvError, match=match + "; look at layer"):
        verify(network, other, x)


def test_exception_no_layer_that_runs_before_and_after_it_is_named():
    inputs, relu = keras.Input((8, 8, 3)), keras.layers.ReLU(name="relu")
    first = relu(keras.layers.Conv2D(4, 3, name="first")(inputs))
    model = keras.Model(inputs, relu(keras.layers.Conv2D(4, 3, name="second")(first)))
    other = keras.models.clone_model(model)
    other.set_weights([array * (2 if i == 2 else 1) for i, array in enumerate(model.get_weights())])
    with pytest.raises(DOConvError, match="begins in layer 'second'"):
        verify(model, other, np.ones((2, 8, 8, 3), "float32"))


def test_exception_training_mode_is_named(x):
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization()]
    )
    other = keras.models.clone_model(model)
    match = "in training mode; leave training=True out"
    with pytest.raises(DOConvError, match=match):
        verify(model, other, x[0], training=True)


@pytest.mark.parametrize(
    "wrong", [keras.layers.Flatten(), keras.layers.Rescaling(float("nan"))], ids=["shape", "nan"]
)
def test_exception_other_shapes_and_nan(x, wrong):
    with pytest.raises(DOConvError, match="outputs of other shapes, or with NaN"):
        verify(keras.layers.Identity(), wrong, x[0])


@pytest.mark.parametrize("remat", [False, True])
def test_layers_whose_calls_are_traced(remat):
    inputs = keras.Input((6, 4))
    with keras.RematScope(mode="full" if remat else None):
        outputs = keras.layers.Conv1D(4, 3, name="conv")(inputs)
    model = keras.Model(inputs, keras.layers.LSTM(3, name="lstm")(outputs))
    x = np.ones((2, 6, 4), "float32")
    assert verify(model, convert(model), x) == 0
    other = keras.models.clone_model(model)
    # jax traces what it is to compute again, and no values are seen in there.
    first = "lstm" if remat and keras.backend.backend() == "jax" else "conv"
    with pytest.raises(DOConvError, match=f"in layer '{first}'"):
        verify(model, other, x)


def test_a_kernel_that_a_call_moves_is_put_back(x, numbers, same):
    conv = keras.layers.Conv2D(4, 3, name="inside")
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.SpectralNormalization(conv)])
    before = numbers(model.variables)
    verify(model, model, x[0], training=True)
    assert same(numbers(model.variables), before)


def test_half_precision():
    layer = keras.layers.Conv2D(4, 3, dtype="bfloat16")
    x = np.ones((2, 8, 8, 3))
    layer(x)
    assert verify(layer, convert(layer), x) == 0


def test_empty_outputs():
    # Not of a convolution: on some processors TensorFlow has none of an empty batch.
    layer = keras.layers.Dense(4)
    layer(np.ones((2, 3)))
    assert verify(layer, layer, np.ones((0, 3))) == 0


def test_a_call_that_was_set_on_a_layer_stays(network, x):
    layer = next(one for one in network.layers if isinstance(one, keras.layers.Conv2D))
    call = layer.call
    layer.call = own = lambda inputs: 2 * call(inputs)
    assert verify(network, network, x) == 0
    plan(network)
    assert layer.call is own
