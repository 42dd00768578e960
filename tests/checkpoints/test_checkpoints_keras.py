"""Folding Keras's weight files: the plain model loads what comes out."""

import h5py
import keras
import numpy as np
import pytest
from keras import layers

from do_conv import DOConvError, checkpoints
from do_conv.tf import (
    DepthwiseSeparableConv2D,
    DOConv1D,
    DOConv2D,
    DOConv2DTranspose,
    DOConv3D,
    DODepthwiseConv2D,
    DOSeparableConv1D,
    DOSeparableConv2D,
)

pytestmark = pytest.mark.usefixtures("one_reader")

# Ours, the plain class, its arguments, and the rank.
LAYERS = {
    "default": (DOConv2D, layers.Conv2D, (6, 3), {}, 2),
    "no-bias": (DOConv2D, layers.Conv2D, (6, 3), {"use_bias": False}, 2),
    "groups": (DOConv2D, layers.Conv2D, (6, (3, 5)), {"groups": 2}, 2),
    "pointwise": (DOConv2D, layers.Conv2D, (6, 1), {}, 2),
    "1d": (DOConv1D, layers.Conv1D, (6, 3), {}, 1),
    "3d": (DOConv3D, layers.Conv3D, (6, 2), {}, 3),
    "transposed": (DOConv2DTranspose, layers.Conv2DTranspose, (6, 3), {}, 2),
    "depthwise": (DODepthwiseConv2D, layers.DepthwiseConv2D, (3,), {"depth_multiplier": 2}, 2),
    "separable-delta": (
        DOSeparableConv2D, layers.SeparableConv2D, (6, 3), {"depth_multiplier": 2}, 2,
    ),
    "separable-delta-1d": (
        DOSeparableConv1D, layers.SeparableConv1D, (6, 3), {"use_bias": False}, 1,
    ),
    "separable-delta-pointwise": (DOSeparableConv2D, layers.SeparableConv2D, (6, 1), {}, 2),
    "separable": (
        DepthwiseSeparableConv2D, layers.SeparableConv2D, (6, 3), {"depth_multiplier": 2}, 2,
    ),
}  # fmt: skip
NO_D_MUL = ("separable", "pointwise")


def trained(model):
    """The model with variables as after training."""
    rng = np.random.default_rng(0)
    for variable in model.variables:
        variable.assign(rng.uniform(0.1, 0.6, variable.shape))
    return model


def folded_into(plain, model, folder):
    """Save the model, fold the file, load it into the plain model, and compare outputs."""
    trained(model).save_weights(folder / "in.weights.h5")
    report = checkpoints.fold(folder / "in.weights.h5", folder / "out.weights.h5")
    plain.load_weights(folder / "out.weights.h5")
    shape = (2, *model.input_shape[1:]) if hasattr(model, "inputs") else (2, 12, 12, 4)
    x = np.random.default_rng(1).standard_normal(shape).astype("float32")
    expected = keras.ops.convert_to_numpy(model(x))
    found = keras.ops.convert_to_numpy(plain(x))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * abs(expected).max())
    return report


def sequential(rank, *inside):
    return keras.Sequential([keras.Input((10,) * rank + (4,)), *inside])


@pytest.mark.parametrize("d_mul", [None, 29])
@pytest.mark.parametrize("name", LAYERS)
def test_every_kind_of_layer_in_a_sequential_model(name, d_mul, tmp_path):
    ours, plain, arguments, options, rank = LAYERS[name]
    more = {"d_mul": d_mul} if d_mul and not name.endswith(NO_D_MUL) else {}
    model = sequential(rank, ours(*arguments, **options, **more), layers.BatchNormalization())
    onto = sequential(rank, plain(*arguments, **options), layers.BatchNormalization())
    report = folded_into(onto, model, tmp_path)
    assert len(report.layers) == 1


def test_layers_are_counted_in_their_order(tmp_path):
    def network(conv):
        return sequential(2, *(conv(4, 3, padding="same", name=f"l{i}") for i in range(12)))

    folded_into(network(layers.Conv2D), network(DOConv2D), tmp_path)


def test_a_functional_model_with_a_model_inside(tmp_path):
    def network(conv, depthwise):
        inputs = keras.Input((12, 12, 4))
        inner = sequential(2, conv(4, 3, padding="same"), layers.Dense(4))
        left = conv(4, 3, padding="same")(inputs)
        right = depthwise(3, padding="same")(inner(inputs[:, :10, :10]))
        right = layers.UpSampling2D()(right)[:, :12, :12]
        return keras.Model(inputs, conv(2, 3)(layers.Add()([left, right])))

    model = network(DOConv2D, DODepthwiseConv2D)
    report = folded_into(network(layers.Conv2D, layers.DepthwiseConv2D), model, tmp_path)
    assert len(report.layers) == 4


class Subclassed(keras.Model):
    """Layers as attributes beside plain ones, in lists, and in a model inside."""

    def __init__(self, conv):
        super().__init__()
        self.first = conv(4, 3, padding="same")
        self.between = layers.Conv2D(4, 3, padding="same")
        self.do_conv2d = conv(4, 3, padding="same")
        self.blocks = [conv(4, 3, padding="same"), layers.Dense(4), conv(4, 3, padding="same")]
        self.inner = keras.Sequential([conv(4, 3, padding="same"), layers.Dense(4)])

    def call(self, x):
        x = self.do_conv2d(self.between(self.first(x)))
        for block in self.blocks:
            x = block(x)
        return self.inner(x)


def test_attributes_keep_their_names(tmp_path):
    models = [Subclassed(conv) for conv in (DOConv2D, layers.Conv2D)]
    for model in models:
        model(np.zeros((1, 12, 12, 4), "float32"))
    report = folded_into(models[1], models[0], tmp_path)
    assert "do_conv2d" in [one.name for one in report.layers]


class AfterLayers(keras.Model):
    """Attributes, all but the first of which come after "layers" and are stored in that list."""

    def __init__(self, conv, early=layers.Dense, late=layers.Dense):
        super().__init__()
        self.early = early(4) if early is layers.Dense else early(4, 3)
        self.stem = conv(4, 3)
        self.up = conv(4, 3)
        self.last = late(4) if late is layers.Dense else late(4, 3)

    def call(self, x):
        return self.last(self.up(self.stem(self.early(x))))


def built(model):
    model(np.zeros((1, 12, 12, 4), "float32"))
    return model


@pytest.mark.parametrize("early", [layers.Dense, DOConv2D])
def test_attributes_in_the_list_of_layers(early, tmp_path):
    plain = layers.Conv2D if early is DOConv2D else early
    model, onto = built(AfterLayers(DOConv2D, early)), built(AfterLayers(layers.Conv2D, plain))
    folded_into(onto, model, tmp_path)


@pytest.mark.parametrize(
    "arguments",
    [
        (DOConv2D, layers.Conv2D),
        (DOConv2D, layers.Dense, layers.Conv2D),
        (layers.Conv2D, DOConv2D),
    ],
)
def test_exception_plain_layers_that_are_counted_with_ours(arguments, tmp_path):
    trained(built(AfterLayers(*arguments))).save_weights(tmp_path / "in.weights.h5")
    with pytest.raises(DOConvError, match="does not tell their order; received 'layers' with"):
        checkpoints.fold(tmp_path / "in.weights.h5", tmp_path / "out.weights.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["in.weights.h5"]


def test_an_optimizer_and_every_note_go_through(tmp_path):
    model = sequential(2, DOConv2D(4, 3), layers.Flatten(), layers.Dense(1))
    model.compile("adam", "mse")
    model.fit(np.zeros((2, 10, 10, 4)), np.zeros((2, 1)), verbose=0)
    source, target = tmp_path / "in.weights.h5", tmp_path / "out.weights.h5"
    model.save_weights(source)
    with h5py.File(source, "a") as file:
        file.attrs["note"] = "kept"
        file["more"] = np.arange(5)
        packed = {"chunks": (10, 10), "compression": "gzip", "compression_opts": 9}
        packed |= {"shuffle": True, "fletcher32": True}
        file.create_dataset("packed", data=np.ones((40, 40)), **packed)
        file["more"].attrs["unit"] = np.array([b"mm", b"cm"])
    checkpoints.fold(source, target)
    with h5py.File(source) as old, h5py.File(target) as new:
        assert new.attrs["note"] == "kept"
        assert list(new["more"].attrs["unit"]) == [b"mm", b"cm"]
        assert {name: getattr(new["packed"], name) for name in packed} == packed
        assert dict(new["layers/conv2d/vars"].attrs) == dict(old["layers/do_conv2d/vars"].attrs)
        for name in ("optimizer/vars/2", "more", "packed"):
            np.testing.assert_array_equal(new[name][()], old[name][()])
        assert "depthwise_delta" not in new["layers/conv2d/vars"]


def test_bfloat16(tmp_path):
    def network(conv):
        return sequential(2, conv(6, 3, dtype="bfloat16"))

    model, plain = trained(network(DOConv2D)), network(layers.Conv2D)
    model.save_weights(tmp_path / "in.weights.h5")
    checkpoints.fold(tmp_path / "in.weights.h5", tmp_path / "out.weights.h5")
    plain.load_weights(tmp_path / "out.weights.h5")
    assert plain.layers[0].kernel.dtype == "bfloat16"
    kernels = (plain.layers[0].kernel, model.layers[0].composed_kernel())
    found, expected = (keras.ops.convert_to_numpy(keras.ops.cast(k, "float32")) for k in kernels)
    np.testing.assert_allclose(found, expected, rtol=0.02)


def test_exception_many_layers_of_one_class_are_not_all_named(tmp_path):
    model = sequential(2, *(conv(4, 1 if conv is layers.Conv2D else 3, padding="same")
                            for _ in range(5) for conv in (DOConv2D, layers.Conv2D)))  # fmt: skip
    model.save_weights(tmp_path / "in.weights.h5")
    with pytest.raises(DOConvError, match=r"'layers/do_conv2d_2'\] and 2 more beside \['layers/"):
        checkpoints.fold(tmp_path / "in.weights.h5", tmp_path / "out.weights.h5")


def test_exception_plain_layers_of_the_class_in_the_same_list(tmp_path):
    model = sequential(2, DOConv2D(4, 3), layers.Conv2D(4, 1))
    model.save_weights(tmp_path / "in.weights.h5")
    with pytest.raises(DOConvError) as refused:
        checkpoints.fold(tmp_path / "in.weights.h5", tmp_path / "out.weights.h5")
    assert str(refused.value) == (
        "layers of one plain class must be all or none of do_conv in a list of layers, because a "
        "Keras weights file does not tell their order; received 'layers' with ['layers/do_conv2d'] "
        "beside ['layers/conv2d']; load it into the model, and save the plain model after "
        "set_weights(do_conv.tf.folded_weights(model))."
    )
    assert [path.name for path in tmp_path.iterdir()] == ["in.weights.h5"]
