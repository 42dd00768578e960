"""Folding whole Keras models: the plain network, and no trace of us."""

import keras
import numpy as np
import pytest

from do_conv import DOConvError
from do_conv.tf import DepthwiseSeparableConv2D, DOConv2D, convert, fold, folded_weights, verify


def classes(model):
    return [type(layer) for layer in model._flatten_layers()]


def variables(model):
    return [(v.path, tuple(v.shape), v.trainable) for v in model.weights]


def assert_plain(folded, plain):
    assert classes(folded) == classes(plain)
    assert variables(folded) == variables(plain)
    assert folded.get_config() == plain.get_config()


@pytest.mark.parametrize("d_mul", [None, lambda spec: 2 * spec.area + 1])
def test_the_same_outputs_and_no_trace(network, x, shaken, numbers, same, d_mul):
    converted = shaken(convert(network, d_mul=d_mul), seed=4)
    before, weights = numbers(converted(x)), numbers(converted.weights)
    folded = fold(converted)
    assert verify(converted, folded, x) < 1e-6
    with pytest.raises(DOConvError, match="must give the same outputs"):
        verify(network, folded, x)
    assert_plain(folded, network)
    assert same(numbers(folded.weights), folded_weights(converted))
    shaken(folded, seed=5)
    assert same(numbers(converted.weights), weights)
    assert same(numbers(converted(x)), before)


def test_training_goes_on_and_stages_are_exact(network, x, shaken, numbers, same):
    """Fold, convert again, fold: nothing moves between the stages."""
    folded = fold(shaken(convert(network), seed=4))
    second = convert(folded)
    assert verify(folded, second, x) == 0
    assert same(numbers(fold(second).weights), numbers(folded.weights))


def test_a_weights_file_of_the_plain_model(network, x, shaken, tmp_path):
    folded = fold(shaken(convert(network), seed=4))
    folded.save_weights(tmp_path / "folded.weights.h5")
    network.load_weights(tmp_path / "folded.weights.h5")
    assert verify(folded, network, x) == 0


def test_a_converted_model_inside_a_larger_one(network, x, shaken):
    inputs = [keras.Input((8, 8, 3)) for _ in range(2)]
    backbone = shaken(convert(network), seed=4)
    larger = keras.Model(inputs, keras.layers.Conv2D(2, 1)(backbone(inputs)["large"]))
    folded = fold(larger)
    assert verify(larger, folded, x) < 1e-6
    assert_plain(folded.get_layer("whole"), network)


def test_layers_of_every_door(x):
    shared = DepthwiseSeparableConv2D(3, 3, padding="same")
    with_lora = DOConv2D(4, 3, depthwise_init="he", lora_rank=1)
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), shared, keras.Sequential([shared]), with_lora,
         keras.layers.TimeDistributed(keras.layers.Conv1D(2, 1)), DOConv2D(4, 1)]
    )  # fmt: skip
    with_lora.lora_kernel_b.assign(np.ones(with_lora.lora_kernel_b.shape))
    folded = fold(model)
    assert folded.layers[0] is folded.layers[1].layers[0]
    assert type(folded.layers[0]) is keras.layers.SeparableConv2D
    assert not folded.layers[2].lora_enabled
    assert verify(model, folded, x[0]) < 1e-5


@pytest.mark.parametrize("layer_class", [DOConv2D, DepthwiseSeparableConv2D])
def test_a_bare_layer(x, layer_class):
    layer = layer_class(4, 3, name="mine")
    layer(x[0])
    folded = fold(layer)
    assert type(folded) is layer_class._plain
    assert folded.name == "mine"
    assert verify(layer, folded, x[0]) < 1e-5


def test_exception_nothing_of_ours(network):
    match = (
        "must have a layer with a depthwise kernel; received a Functional without one; convert it"
    )
    for model in (network, fold(convert(network))):
        with pytest.raises(DOConvError, match=match):
            fold(model)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_exception_what_is_not_finite(network, value):
    converted = convert(network)
    delta = converted.get_layer("shared").depthwise_delta
    delta.assign(np.full(tuple(delta.shape), value))
    with pytest.raises(DOConvError, match=r"kernel must be finite to be folded; .*find where"):
        fold(converted)
    folded = fold(converted, check_finite=False)
    assert not np.isfinite(keras.ops.convert_to_numpy(folded.get_layer("shared").kernel)).all()


def test_exception_a_layer_without_parameters():
    with pytest.raises(DOConvError, match="layer 'new' without parameters"):
        fold(keras.Sequential([DOConv2D(4, 3, name="new")]))
