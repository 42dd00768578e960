"""The layer with the arguments of the authors' TensorFlow code, and their weights files."""

import inspect
import json
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

import do_conv.tf
from do_conv import DOConvError
from do_conv.tf.authors import DOConv2D

SAMPLES = sorted((Path(__file__).parents[1] / "data" / "authors").glob("tf_*.npz"))


def model_of(config, image, **options):
    """A model of one layer, with the arguments of a sample."""
    config = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}
    config.pop("in_channels")
    return keras.Sequential([keras.Input(image), DOConv2D(**config, **options)])


@pytest.mark.parametrize("named", [False, True], ids=["counted", "named"])
@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_a_weights_file_of_the_authors_gives_their_output(path, named, tmp_path):
    with np.load(path) as stored:
        arrays = {key: stored[key] for key in stored}
    state = {k[6:]: v for k, v in arrays.items() if k.startswith("state/")}
    with h5py.File(tmp_path / "in.weights.h5", "w") as file:
        group = file.create_group("layers/do_conv2d/vars")
        for count, (name, array) in enumerate(state.items()):
            group[name if named else str(count)] = array
    config = json.loads(str(arrays["config"]))
    model = model_of(config, arrays["x"].shape[1:], use_bias="bias" in state)
    model.load_weights(tmp_path / "in.weights.h5")
    found = keras.ops.convert_to_numpy(model(arrays["x"]))
    np.testing.assert_allclose(found, arrays["y"], rtol=0, atol=1e-6 * abs(arrays["y"]).max())
    model.save_weights(tmp_path / "own.weights.h5")
    again = model_of(config, arrays["x"].shape[1:], use_bias="bias" in state)
    again.load_weights(tmp_path / "own.weights.h5")
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(again(arrays["x"])), found)


def test_the_arguments_are_theirs_in_their_order():
    names = list(inspect.signature(DOConv2D).parameters)
    assert names[:8] == [
        "filters", "kernel_size", "D_mul", "groups", "strides", "padding", "data_format",
        "dilation_rate",
    ]  # fmt: skip
    theirs = names[: names.index("depthwise_init")]
    plain = list(inspect.signature(keras.layers.Conv2D).parameters)
    assert set(theirs) == {*plain, "D_mul"} - {"kwargs"}


def test_its_configuration_makes_it_again():
    layer = DOConv2D(6, 3, 18, 2, 2, "same", activation="relu", name="first")
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    assert type(again) is DOConv2D
    assert again.get_config() == layer.get_config()
    assert (again.d_mul, again.groups, again.strides) == (18, 2, (2, 2))


def test_it_is_a_layer_of_do_conv_and_folds():
    layer = DOConv2D(6, 3)
    x = np.random.default_rng(0).standard_normal((2, 8, 8, 4)).astype("float32")
    y = keras.ops.convert_to_numpy(layer(x))
    assert isinstance(layer, do_conv.tf.DOConv2D)
    folded = layer.fold()
    assert type(folded) is keras.layers.Conv2D
    np.testing.assert_allclose(keras.ops.convert_to_numpy(folded(x)), y, rtol=0, atol=1e-5)


ARRAYS = {"kernel": np.ones((9, 4, 6)), "D": np.ones((9, 9, 4)), "bias": np.ones(6)}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"D": None}, r"must be \['D', 'kernel'\]; received \['kernel'\]"),
        ({"kernel": None}, r"must be \['D', 'kernel'\]; received \['D'\]"),
        ({"bias": None}, "must be .*; received .*'0', 'depthwise_delta'"),
        (
            {"D": np.ones((25, 9, 4))},
            r"D' must have shape \(9, 9, 4\); received shape \(25, 9, 4\)",
        ),
        ({"kernel": np.ones((9, 4, 8))}, "must fit each other; received layer 'do_conv2d.*'"),
    ],
)
def test_exception_arrays_that_do_not_fit(changed, said, tmp_path):
    arrays = {name: one for name, one in {**ARRAYS, **changed}.items() if one is not None}
    with h5py.File(tmp_path / "in.weights.h5", "w") as file:
        for name, array in arrays.items():
            file[f"layers/do_conv2d/vars/{name}"] = array
    model = keras.Sequential([keras.Input((8, 8, 4)), DOConv2D(6, 3)])
    before = model.get_weights()
    with pytest.raises(ValueError, match=said):  # Keras's, with ours in it
        model.load_weights(tmp_path / "in.weights.h5")
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_exception_strides_in_the_place_of_the_multiplier():
    with pytest.raises(DOConvError, match="D_mul, the third argument of the authors' layer"):
        DOConv2D(8, 3, 2)
