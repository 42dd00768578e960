"""Configurations, saved models and weight files, and what a wrong file says."""

import json
import re

import h5py
import keras
import numpy as np
import pytest

from do_conv.tf import (
    DepthwiseSeparableConv2D,
    DOConv1D,
    DOConv2D,
    DOConv2DTranspose,
    DOConv3D,
    DODepthwiseConv2D,
    DOSeparableConv2D,
    convert,
)

OURS = {
    "d_mul": 11,
    "depthwise_init": "he",
    "composition": "feature",
    "delta_regularizer": keras.regularizers.L1L2(0.1, 0.2),
    "delta_constraint": keras.constraints.MaxNorm(3, axis=[0, 1]),
}
CASES = [
    (DOConv1D, {"filters": 4, "kernel_size": 3, "padding": "causal", "dilation_rate": 2}),
    (DOConv2D, {"filters": 4, "kernel_size": (2, 3), "groups": 2, "activation": "relu"}),
    (DOConv3D, {"filters": 4, "kernel_size": 2, "use_bias": False, "kernel_regularizer": "l2"}),
    (DODepthwiseConv2D, {"kernel_size": 3, "depth_multiplier": 2, "strides": 2}),
    (DOConv2DTranspose, {"filters": 4, "kernel_size": 3, "strides": 2, "output_padding": 1}),
]


def numbers(tensor):
    return keras.ops.convert_to_numpy(tensor)


def shake(model):
    """Move every parameter from its start, and return the model."""
    random = np.random.default_rng(1)
    for v in model.weights:
        v.assign(0.3 * random.standard_normal(tuple(v.shape)))
    return model


def every_layer():
    """A model with each layer and each kind of variables."""
    return keras.Sequential(
        [
            keras.Input((4, 4, 4, 2)),
            DOConv3D(4, 2, name="volume"),
            keras.layers.Reshape((3, 9, 4)),
            DOConv2D(6, (1, 2), groups=2, d_mul=5, composition="feature", name="grouped"),
            DODepthwiseConv2D(2, depth_multiplier=2, padding="same", name="depthwise"),
            DOConv2D(4, 1, d_mul=3, name="pointwise"),
            DOConv2DTranspose(4, 2, d_mul=5, padding="same", name="transposed"),
            keras.layers.Reshape((24, 4)),
            DOConv1D(3, 3, padding="causal", use_bias=False, depthwise_init="he", name="series"),
        ]
    )


def an_input(model):
    shape = (2, *model.input_shape[1:])
    return np.random.default_rng(0).standard_normal(shape).astype("float32")


@pytest.mark.parametrize("ours", [{}, OURS])
@pytest.mark.parametrize(("layer_class", "arguments"), CASES)
def test_a_configuration_makes_the_layer_again(layer_class, arguments, ours):
    if ours and layer_class is DOConv2DTranspose:
        ours = {**ours, "composition": "kernel"}
    config = layer_class(**arguments, **ours, name="layer").get_config()
    assert layer_class.from_config(config).get_config() == config
    through_json = json.loads(json.dumps(keras.layers.serialize(layer_class.from_config(config))))
    again = keras.layers.deserialize(through_json)
    assert type(again) is layer_class
    assert again.get_config() == config
    assert again.d_mul == ours.get("d_mul", np.prod(again.kernel_size))
    assert again.depthwise_init == ours.get("depthwise_init", "identity")
    assert again.composition == ours.get("composition", "kernel")
    for name in ("delta_regularizer", "delta_constraint"):
        found, wanted = getattr(again, name), ours.get(name)
        assert type(found) is type(wanted)
        assert found is wanted is None or found.get_config() == wanted.get_config()


def test_a_configuration_tells_what_the_attribute_says_now():
    layer = DOConv2D(4, 3)
    layer.composition = "feature"
    assert DOConv2D.from_config(layer.get_config()).composition == "feature"


def test_a_saved_model_is_the_same_model(tmp_path):
    model = shake(every_layer())
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert [type(layer) for layer in again.layers] == [type(layer) for layer in model.layers]
    configs = [[layer.get_config() for layer in network.layers] for network in (again, model)]
    assert configs[0] == configs[1]
    for old, new in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)
    x = an_input(model)
    np.testing.assert_array_equal(numbers(again(x)), numbers(model(x)))


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "mixed_bfloat16"])
def test_a_weights_file_brings_every_parameter(tmp_path, dtype):
    model, again = (
        keras.Sequential(
            [
                keras.Input((9, 9, 4)),
                DOConv2D(4, 2, d_mul=6, groups=2, kernel_initializer="zeros", dtype=dtype),
                DOConv2D(4, 1, kernel_initializer="zeros", dtype=dtype),
                DODepthwiseConv2D(2, depthwise_initializer="zeros", dtype=dtype),
                DOConv2DTranspose(3, 2, kernel_initializer="zeros", dtype=dtype),
            ]
        )
        for _ in range(2)
    )
    shake(model).save_weights(tmp_path / "model.weights.h5")
    again.load_weights(tmp_path / "model.weights.h5")
    assert len(again.weights) == 11
    for old, new in zip(model.weights, again.weights, strict=True):
        assert new.dtype == old.dtype
        assert abs(numbers(new).astype("float64")).max() > 0.1
        np.testing.assert_array_equal(numbers(new), numbers(old))


def one_layer(layer_class=DOConv2D, **arguments):
    filters = {"filters": 4, "kernel_initializer": "zeros"} if layer_class is DOConv2D else {}
    channels = arguments.pop("channels", 4)
    layer = layer_class(**{**filters, "kernel_size": 2, "name": "layer", **arguments})
    return shake(keras.Sequential([keras.Input((5, 5, channels)), layer]))


@pytest.mark.parametrize(
    ("saved", "loading", "variable", "shapes"),
    [
        ({}, {"kernel_size": 3}, "kernel", ((3, 3, 4, 4), (2, 2, 4, 4))),
        ({}, {"kernel_size": (4, 1)}, "kernel", ((4, 1, 4, 4), (2, 2, 4, 4))),
        ({}, {"groups": 2}, "kernel", ((2, 2, 2, 4), (2, 2, 4, 4))),
        ({}, {"d_mul": 5}, "kernel", ((5, 4, 4), (2, 2, 4, 4))),
        ({"d_mul": 6}, {}, "kernel", ((2, 2, 4, 4), (6, 4, 4))),
        ({"d_mul": 6}, {"d_mul": 5}, "kernel", ((5, 4, 4), (6, 4, 4))),
        ({}, {"filters": 6}, "kernel", ((2, 2, 4, 6), (2, 2, 4, 4))),
        (
            {"kernel_size": (1, 3), "d_mul": 4},
            {"kernel_size": (3, 1), "d_mul": 4},
            "depthwise_delta",
            ((3, 1, 4, 4), (1, 3, 4, 4)),
        ),
        (
            {"channels": 8, "groups": 2},
            {"channels": 4},
            "depthwise_delta",
            ((2, 2, 4, 4), (2, 2, 8, 4)),
        ),
        (
            {"layer_class": DODepthwiseConv2D},
            {"layer_class": DODepthwiseConv2D, "depth_multiplier": 2},
            "kernel",
            ((2, 2, 4, 2), (2, 2, 4, 1)),
        ),
    ],
)
def test_a_file_of_other_sizes_is_refused_whole(tmp_path, saved, loading, variable, shapes):
    path = tmp_path / "model.weights.h5"
    one_layer(**saved).save_weights(path)
    model = one_layer(**loading)
    model.set_weights([value + 1 for value in model.get_weights()])
    before = [np.array(value) for value in model.get_weights()]
    expected, received = map(re.escape, map(str, shapes))
    pattern = f"layer/{variable}' must have shape {expected}; received shape {received}; build the"
    with pytest.raises(ValueError, match=pattern):
        model.load_weights(path)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(
    ("gone", "loading"),
    [("depthwise_delta", {}), ("1", {}), (None, {"use_bias": False}), (None, {"kernel_size": 1})],
)
def test_a_file_without_a_parameter_or_with_another_is_refused_whole(tmp_path, gone, loading):
    path = tmp_path / "model.weights.h5"
    one_layer().save_weights(path)
    if gone:
        with h5py.File(path, "a") as file:
            del file[f"layers/do_conv2d/vars/{gone}"]
    model = one_layer(**loading)
    model.set_weights([value + 1 for value in model.get_weights()])
    before = [np.array(value) for value in model.get_weights()]
    wanted = {"0", "1", "depthwise_delta"}
    there = sorted(wanted - {gone})
    absent = {"use_bias": "1", "kernel_size": "depthwise_delta"}
    wanted = sorted(wanted - {absent[name] for name in loading})
    pattern = re.escape(f"layer 'layer' must be {wanted}; received {there}; load a file saved")
    with pytest.raises(ValueError, match=pattern):
        model.load_weights(path)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


class Holder(keras.layers.Layer):
    """A layer that does not build the one it holds."""

    def __init__(self, held):
        super().__init__(name="holder")
        self.held = held

    def build(self, input_shape):
        self.built = True

    def call(self, inputs):
        return self.held(inputs)


@pytest.mark.parametrize("layer_class", [DOConv2D, DODepthwiseConv2D])
def test_a_file_for_a_layer_that_was_never_built_is_refused(tmp_path, layer_class):
    path = tmp_path / "model.weights.h5"
    arguments = {"filters": 4} if layer_class is DOConv2D else {}
    held = [layer_class(kernel_size=2, **arguments, name="held") for _ in range(2)]
    saved = keras.Sequential([keras.Input((5, 5, 4)), Holder(held[0])])
    saved.save_weights(path)
    loading = keras.Sequential([Holder(held[1])])
    loading.built = loading.layers[0].built = True
    with pytest.raises(ValueError, match="'held'"):
        loading.load_weights(path)


OVER = {
    "Conv2D": DOConv2D,
    "DepthwiseConv2D": DODepthwiseConv2D,
    "SeparableConv2D": DOSeparableConv2D,
    "Conv2DTranspose": DOConv2DTranspose,
}


def mixed(ours=()):
    """A Functional model with a Sequential one inside; `ours` are the kinds that have a D'."""
    kinds = {name: over if name in ours else getattr(keras.layers, name)
             for name, over in OVER.items()}  # fmt: skip
    inputs = keras.Input((8, 8, 3))
    inner = [kinds["DepthwiseConv2D"](3, name="b"), kinds["SeparableConv2D"](4, 2, name="c")]
    x = keras.Sequential([keras.layers.Conv2D(3, 1), *inner])(inputs)
    x = kinds["Conv2D"](4, 3, name="a")(x)
    return shake(keras.Model(inputs, kinds["Conv2DTranspose"](2, 2, name="d")(x)))


# Keras looks for a layer that failed a second time, and says so.
@pytest.mark.filterwarnings("ignore:Skipping nested container")
@pytest.mark.parametrize("ending", [".weights.h5", ".keras"])
@pytest.mark.parametrize("ours", [*([name] for name in OVER), list(OVER)], ids=lambda ours: ours[0])
def test_a_plain_file_is_refused_with_the_way_to_load_it(tmp_path, ours, ending):
    path, plain = tmp_path / f"plain{ending}", mixed()
    plain.save(path) if ending == ".keras" else plain.save_weights(path)
    model = mixed(ours)
    layers = [layer for layer in model._flatten_layers() if type(layer) in OVER.values()]
    before = [[np.array(value) for value in layer.get_weights()] for layer in layers]
    assert len(layers) == len(ours)
    kind = OVER[ours[0]].__name__ if len(ours) == 1 else "DO"
    said = f"as a {kind}.*load it into the plain model and then convert"
    with pytest.raises(ValueError, match=said):
        model.load_weights(path)
    for layer, values in zip(layers, before, strict=True):
        for value, old in zip(layer.get_weights(), values, strict=True):
            np.testing.assert_array_equal(value, old)
    other = mixed()
    other.set_weights([0 * value for value in other.get_weights()])
    other.load_weights(path)
    x = an_input(plain)
    np.testing.assert_array_equal(numbers(convert(other)(x)), numbers(plain(x)))


@pytest.mark.filterwarnings("ignore:Skipping nested container")
def test_a_mismatch_that_is_skipped_is_a_warning_and_leaves_our_layers(tmp_path):
    path = tmp_path / "plain.weights.h5"
    mixed().save_weights(path)
    model = mixed(OVER)
    ours = [layer for layer in model._flatten_layers() if type(layer) in OVER.values()]
    before = [np.array(value) for layer in ours for value in layer.get_weights()]
    with pytest.warns(UserWarning, match=r"4 objects could not be loaded(.|\n)*then convert"):
        model.load_weights(path, skip_mismatch=True)
    after = [value for layer in ours for value in layer.get_weights()]
    for value, old in zip(after, before, strict=True):
        np.testing.assert_array_equal(value, old)


def test_so_is_a_plain_file_for_a_pointwise_and_for_a_separable_layer(tmp_path):
    for kind, ours, size in (
        (keras.layers.Conv2D, DOConv2D, 1),
        (keras.layers.SeparableConv2D, DepthwiseSeparableConv2D, 3),
    ):
        plain, model = (
            keras.Sequential([keras.Input((8, 8, 3)), layer_class(4, size, name="one")])
            for layer_class in (kind, ours)
        )
        plain.save_weights(tmp_path / "plain.weights.h5")
        with pytest.raises(ValueError, match=r"layer 'one' as a D.*then convert that model"):
            model.load_weights(tmp_path / "plain.weights.h5")
