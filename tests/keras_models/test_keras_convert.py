"""Converting whole Keras models: what changes, and all that does not."""

import keras
import numpy as np
import pytest
from small_keras import conv, kinds, small

from do_conv import DOConvError
from do_conv import tf as do_tf
from do_conv.tf import convert, fold, plan, verify


def test_the_outputs_are_the_same_bits_and_the_model_is_a_new_one(
    network, x, numbers, same, shaken
):
    before, weights = numbers(network(x)), numbers(network.weights)
    plain_kinds, output = kinds(network), network.get_layer("shared").output
    converted = convert(network)
    assert same(numbers(converted(x)), before)
    shaken(converted, seed=3)
    assert same(numbers(network.weights), weights)
    assert same(numbers(network(x)), before)
    assert kinds(network) == plain_kinds
    assert network.get_layer("shared").output is output


def test_only_convolutions_with_more_than_one_position_change(network):
    converted = convert(network)
    names = {
        **kinds(converted),
        **kinds(converted.get_layer("inner")),
        **kinds(converted.get_layer("sequential")),
    }
    assert names["shared"] == "DOConv2D"
    assert names["depthwise"] == "DODepthwiseConv2D"
    assert names["separable"] == "DOSeparableConv2D"
    assert names["up"] == "DOConv2DTranspose"
    assert (names["pointwise"], names["norm"]) == ("Conv2D", "BatchNormalization")
    assert converted.output_names == network.output_names
    assert [layer.name for layer in converted.layers] == [layer.name for layer in network.layers]
    assert [x.name for x in converted.inputs] == ["one", "two"]


def test_shared_layers_and_models_stay_shared(x):
    shared = keras.layers.Conv2D(3, 3, padding="same")
    inner, inputs = small(shared), keras.Input((8, 8, 3))
    model = keras.Model(inputs, shared(inner(inner(inputs))))
    converted = convert(model)
    deltas = [v for v in converted.weights if v.name == "depthwise_delta"]
    assert len(deltas) == len(plan(model).rows) == 1
    assert verify(model, converted, x[0]) == 0


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.Conv1D(6, 3, padding="causal"),
        keras.layers.Conv3D(4, 2, groups=2),
        keras.layers.Conv1DTranspose(4, 3),
        keras.layers.Conv3DTranspose(2, 2, strides=2),
        keras.layers.DepthwiseConv2D(3, depth_multiplier=2),
        keras.layers.SeparableConv1D(4, 3, depth_multiplier=2),
        keras.layers.SeparableConv2D(4, 3, strides=2),
    ],
    ids=lambda layer: type(layer).__name__,
)
@pytest.mark.parametrize("d_mul", [None, lambda spec: spec.area + 2])
def test_a_bare_layer(layer, d_mul, shaken):
    rank = len(layer.kernel_size)
    x = np.random.default_rng(0).standard_normal((2, *[5] * rank, 4)).astype("float32")
    layer(x)
    shaken(layer)
    converted = convert(layer, d_mul=d_mul)
    assert type(converted) is getattr(do_tf, f"DO{type(layer).__name__}")
    assert converted.name == layer.name
    assert verify(layer, converted, x) == 0


def test_policies_formats_penalties_and_names_stay(shaken):
    layer = conv(
        dtype="mixed_bfloat16", data_format="channels_last", kernel_regularizer="l2",
        kernel_constraint="non_neg", activation="relu", name="mine",
    )  # fmt: skip
    model = small(layer)
    (new,) = convert(model).layers
    config = layer.get_config()
    assert {key: new.get_config()[key] for key in config} == config
    assert [v.path for v in new.weights][:2] == [v.path for v in layer.weights]


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "mixed_float16"])
def test_precisions(dtype, numbers, same):
    model = small(conv(dtype=dtype), keras.layers.BatchNormalization(dtype=dtype))
    x = np.random.default_rng(0).standard_normal((2, 8, 8, 3))
    assert same(numbers(convert(model)(x)), numbers(model(x)))


def squares(tensor):
    return keras.ops.sum(tensor**2)


class Doubled(keras.constraints.Constraint):
    """A projection that Keras does not know by name."""

    def __call__(self, tensor):
        return 2 * tensor


@pytest.mark.parametrize("layer_class", ["Conv2D", "SeparableConv2D", "Conv2DTranspose"])
def test_functions_of_ones_own(layer_class, x):
    def ones(shape, dtype=None):
        return keras.ops.ones(shape, dtype)

    layer = getattr(keras.layers, layer_class)(
        4, 3, activation=lambda tensor: tensor * 3, bias_initializer=ones,
        bias_regularizer=squares, bias_constraint=Doubled(),
    )  # fmt: skip
    model = small(layer, keras.layers.Activation(squares))
    converted = convert(model)
    folded = fold(converted)
    assert verify(model, converted, x[0]) == 0
    assert verify(model, folded, x[0]) < 1e-6
    for new in (converted.layers[0], folded.layers[0]):
        for name in ("activation", "bias_initializer", "bias_regularizer", "bias_constraint"):
            assert getattr(new, name) is getattr(layer, name)
    assert type(folded.layers[0]) is type(layer)


@keras.saving.register_keras_serializable("tests")
class OwnSlopes(keras.layers.PReLU):
    """A layer of one's own, as an activation."""


@pytest.mark.parametrize("layer_class", ["Conv2D", "SeparableConv2D", "DepthwiseConv2D"])
def test_an_activation_that_is_a_layer_has_its_values(layer_class, x, shaken):
    options = {} if layer_class == "DepthwiseConv2D" else {"filters": 3}
    layer = getattr(keras.layers, layer_class)(kernel_size=3, activation=OwnSlopes(), **options)
    model = small(layer, keras.layers.Dense(2, activation=keras.layers.PReLU(), name="dense"))
    model(x[0])  # which builds the activations
    layer.activation.trainable = False
    shaken(model)
    converted = convert(model)
    folded = fold(converted)
    x = -1000 * abs(x[0])
    assert verify(model, converted, x) == 0
    assert verify(model, folded, x) < 1e-6
    for new in (converted, folded):
        assert new.layers[0].activation is not layer.activation
        trained = [v.name for v in new.trainable_weights if v.name != "depthwise_delta"]
        assert trained == [v.name for v in model.trainable_weights]


def test_what_is_trained_stays(network):
    network.get_layer("depthwise").trainable = False
    network.get_layer("inner").trainable = False
    network.get_layer("inner").get_layer("pointwise").trainable = True
    network.get_layer("shared").kernel.trainable = False
    network.get_layer("norm").gamma.trainable = False
    converted = convert(network)

    def trained(model):
        return {v.path for v in model.trainable_weights if v.name != "depthwise_delta"}

    assert trained(converted) == trained(network)
    assert {v.path for v in converted.trainable_weights} - trained(converted) == {
        "sequential/up/depthwise_delta"
    }
    assert trained(fold(converted)) == trained(network)


def test_a_frozen_model_stays_frozen(network):
    network.trainable = False
    assert not convert(network).trainable
    assert convert(network).trainable_weights == []


@pytest.mark.parametrize("d_mul", [18, lambda spec: 2 * spec.area + 1])
def test_more_slots(network, x, d_mul):
    assert verify(network, convert(network, d_mul=d_mul), x) == 0


def test_slots_after_the_whole_blocks_can_train():
    model = convert(small(conv()), d_mul=11)
    before = keras.ops.convert_to_numpy(model.layers[0].kernel).copy()
    assert (abs(before).max((1, 2)) > 0).all()
    model.compile(keras.optimizers.SGD(0.1), "mse")
    x = np.random.default_rng(0).standard_normal((2, 8, 8, 3))
    model.fit(x, np.ones((2, 6, 6, 4)), verbose=0)
    delta = keras.ops.convert_to_numpy(model.layers[0].depthwise_delta)
    assert (abs(delta).max((0, 1, 2)) > 0).all()


def test_he_start_changes_the_outputs(network, x):
    converted = convert(network, depthwise_init="he")
    with pytest.raises(DOConvError, match="must give the same outputs"):
        verify(network, converted, x)
    assert converted.get_layer("shared").depthwise_init == "he"


def test_feature_composition(network, x):
    converted = convert(network, composition="feature")
    assert converted.get_layer("shared").composition == "feature"
    assert converted.get_layer("sequential").get_layer("up").composition == "kernel"
    assert verify(network, converted, x) < 1e-5


def test_a_converted_model_trains_and_is_saved(network, x, tmp_path):
    model = convert(network)
    model.compile(keras.optimizers.SGD(1e-4), {"small": "mse", "large": "mse"})
    target = {"small": np.zeros((2, 8, 8, 4)), "large": np.zeros((2, 16, 16, 4))}
    model.fit(x, target, verbose=0)
    deltas = [v for v in model.trainable_weights if v.name == "depthwise_delta"]
    assert len(deltas) == 4
    assert all(abs(keras.ops.convert_to_numpy(v)).max() > 0 for v in deltas)
    model.save(tmp_path / "model.keras")
    assert verify(model, keras.models.load_model(tmp_path / "model.keras"), x) == 0
