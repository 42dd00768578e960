"""Parts of Keras models besides layers: operations, wrappers, classes."""

import keras
import numpy as np
import pytest

from do_conv import DOConvError
from do_conv.tf import DOConv2D, convert, fold, plan, verify


def reasons(model):
    return {row.name: row.reason for row in plan(model)}


def start():
    return keras.Input((8, 8, 3), name="start")


def an_input(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype("float32")


def test_operations_and_functions_that_close_over_something():
    inputs, factor = start(), 3.0
    outputs = keras.ops.relu(keras.layers.Conv2D(4, 3, name="conv")(inputs)) + 1.0
    outputs = keras.layers.Lambda(lambda t: t * factor, name="scale")(outputs)
    outputs = keras.ops.concatenate([outputs[:, :3], outputs[:, 3:]], axis=-1)
    model = keras.Model(inputs, outputs)
    output = model.get_layer("scale").output
    converted = convert(model)
    assert verify(model, converted, an_input(2, 8, 8, 3)) == 0
    assert verify(model, fold(converted), an_input(2, 8, 8, 3)) == 0
    assert model.get_layer("scale").output is output


def test_optional_and_named_inputs():
    inputs = {"a": keras.Input((8, 8, 3), name="a")}
    inputs["b"] = keras.Input((8, 8, 3), name="b", optional=True)

    class Sum(keras.layers.Layer):
        def call(self, a, b=None):
            return a if b is None else a + b

    model = keras.Model(inputs, keras.layers.Conv2D(4, 3)(Sum()(inputs["a"], inputs["b"])))
    converted = convert(model)
    for b in (None, an_input(2, 8, 8, 3)):
        assert verify(model, converted, {"a": an_input(2, 8, 8, 3), "b": b}) == 0


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="Keras has no sparse tensors there")
def test_a_sparse_input_stays_sparse():
    inputs = keras.Input((12,), sparse=True)
    outputs = keras.layers.Reshape((4, 4, 3))(keras.layers.Dense(48)(inputs))
    model = keras.Model(inputs, keras.layers.Conv2D(4, 3)(outputs))
    converted = convert(model)
    assert converted.input.sparse
    assert fold(converted).input.sparse


def test_a_model_that_starts_at_an_inner_tensor():
    inputs = start()
    middle = keras.layers.Conv2D(4, 3, name="first")(inputs)
    model = keras.Model(middle, keras.layers.Conv2D(4, 3, name="second")(middle))
    converted = convert(model)
    assert [row.name for row in plan(model).converted] == ["second"]
    assert verify(model, converted, an_input(2, 6, 6, 4)) == 0


def test_seeds_averages_and_adapted_layers_are_carried_over():
    x = an_input(4, 8, 8, 3)
    adapted = keras.layers.Normalization()
    adapted.adapt(x + 3)
    model = keras.Sequential(
        [start(), adapted, keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization(),
         keras.layers.Dropout(0.5)]
    )  # fmt: skip
    model(x, training=True)  # moves the running averages
    converted = convert(model)
    assert verify(model, converted, x) == 0
    assert verify(model, converted, x, training=True) == 0


def test_time_distributed_layers_and_models():
    inputs = keras.Input((2, 8, 8, 3))
    inner = keras.Sequential([keras.layers.Conv2D(3, 3, name="conv")], name="inner")
    wrap = keras.layers.TimeDistributed
    middle = wrap(keras.layers.Conv2D(4, 3, name="conv"), name="one")(inputs)
    model = keras.Model(inputs, wrap(inner, name="two")(middle))
    converted = convert(model)
    assert type(converted.get_layer("one").layer) is DOConv2D
    assert [row.name for row in plan(model)] == ["one/conv", "two/inner/conv"]
    x = an_input(2, 2, 8, 8, 3)
    assert verify(model, converted, x) == 0
    folded = fold(converted)
    assert verify(model, folded, x) == 0
    assert type(folded.get_layer("two").layer.layers[0]) is keras.layers.Conv2D
    bare = model.get_layer("one")
    assert verify(bare, convert(bare), x) == 0


def test_a_model_that_has_seen_no_input():
    model = keras.Sequential([keras.layers.Conv2D(4, 3), keras.layers.DepthwiseConv2D(3)])
    converted = convert(model)
    assert not converted.built
    assert tuple(converted(an_input(2, 8, 8, 3)).shape) == (2, 4, 4, 4)
    model(an_input(2, 8, 8, 3))
    assert verify(model, convert(model), an_input(2, 8, 8, 3)) == 0


class OwnStep(keras.Model):
    """A class that Keras makes from inputs and outputs."""

    def train_step(self, data):
        return {"loss": 0.0}


class OwnMaker(keras.Model):
    """A Functional model whose class has a constructor of its own."""

    def __init__(self):
        inputs = start()
        super().__init__(inputs, keras.layers.Conv2D(4, 3)(inputs))


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):
    def __init__(self, is_ours=False, **kwargs):
        super().__init__(**kwargs)
        self.conv = (DOConv2D if is_ours else keras.layers.Conv2D)(3, 3, name="conv")

    def build(self, input_shape):
        self.conv.build(input_shape)

    def call(self, inputs):
        return self.conv(inputs)


class OwnConv(keras.layers.Conv2D):
    """A convolution with a call of its own."""


def test_a_class_of_its_own_made_from_inputs_and_outputs_stays():
    inputs = start()
    model = OwnStep(inputs, keras.layers.Conv2D(4, 3)(inputs), name="own")
    converted = convert(model)
    assert type(converted) is OwnStep
    assert type(fold(converted)) is OwnStep
    assert verify(model, converted, an_input(2, 8, 8, 3)) == 0


@pytest.mark.parametrize("make", [OwnMaker, Subclassed])
def test_exception_subclassed_models(make):
    model = make()
    model(an_input(2, 8, 8, 3))
    match = rf"must be a Functional or Sequential model, .* received a {make.__name__}.*; train it"
    with pytest.raises(DOConvError, match=match):
        convert(model)


def test_exception_folding_what_only_its_own_class_can_make():
    model = Subclassed(is_ours=True)
    model(an_input(2, 8, 8, 3))
    with pytest.raises(DOConvError, match=r"a whole model must be .*folded_weights\(model\)"):
        fold(model)
    whole = keras.Sequential([start(), model])
    match = r"layer 'subclassed.*/conv' inside a layer of a class of its own; .*folded_weights"
    with pytest.raises(DOConvError, match=match):
        fold(whole)


def test_what_is_left_and_why():
    with_lora = keras.layers.Conv2D(3, 2, lora_rank=1, name="lora")
    model = keras.Sequential(
        [
            keras.Input((10, 10, 3)),
            keras.layers.Conv2D(3, 3, name="conv"),
            keras.layers.Conv2D(3, 1, name="pointwise"),
            OwnConv(3, 2, name="own"),
            DOConv2D(3, 2, name="ours"),
            with_lora,
            keras.layers.SpectralNormalization(keras.layers.Conv2D(3, 2, name="in"), name="norm"),
            Subclassed(name="model"),
        ],
        name="whole",
    )
    assert reasons(model) == {
        "conv": None,
        "pointwise": "a 1 x 1 kernel has nothing to over-parameterize",
        "own": "its class is not Keras's own",
        "ours": "it has a depthwise kernel already",
        "lora": "its weight is computed from other parameters",
        "norm/in": "its weight is computed from other parameters",
        "model/conv": "it is inside a layer of class Subclassed, "
        "which only its own code can make again",
    }
    assert reasons(keras.layers.DepthwiseConv1D(3)) == {
        "": "there is no over-parameterized layer for its class"
    }
    quantised = keras.layers.Conv2D(3, 3, dtype="int8_from_float32")
    assert reasons(quantised) == {"": "it is prepared for quantisation"}
    converted = convert(model)
    assert verify(model, converted, an_input(2, 10, 10, 3)) == 0
    changed = [
        old.name
        for old, new in zip(model.layers, converted.layers, strict=True)
        if type(old) is not type(new)
    ]
    assert changed == ["conv"]


def test_the_scopes_in_variables_paths_stay():
    inputs = keras.Input((8, 8, 3))
    with keras.name_scope("block"):
        outputs = keras.layers.Conv2D(4, 3, name="conv")(inputs)
        outputs = keras.layers.BatchNormalization(name="norm")(outputs)
    model = keras.Model(inputs, outputs)
    converted = convert(model)
    assert converted.get_layer("conv").depthwise_delta.path == "block/conv/depthwise_delta"
    assert model.variables[0].path == "block/conv/kernel"
    for other in (fold(converted), fold(convert(fold(converted)))):
        assert [v.path for v in other.variables] == [v.path for v in model.variables]


@keras.saving.register_keras_serializable("tests")
def doubled(x):
    return 2 * x


@keras.saving.register_keras_serializable("tests")
class Applied(keras.layers.Layer):
    """A layer that stores a function as Keras's guide to serialization does."""

    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function = function

    def call(self, x):
        return self.function(x)

    def get_config(self):
        function = keras.saving.serialize_keras_object(self.function)
        return {**super().get_config(), "function": function}

    @classmethod
    def from_config(cls, config):
        function = keras.saving.deserialize_keras_object(config.pop("function"))
        return cls(function, **config)


def test_a_layer_that_reads_its_function_from_its_configuration():
    network = keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3), Applied(doubled)]
    )
    x = np.ones((1, 8, 8, 3), "float32")
    converted = convert(network)
    assert verify(network, converted, x) == 0
    assert verify(converted, fold(converted), x) < 1e-6
