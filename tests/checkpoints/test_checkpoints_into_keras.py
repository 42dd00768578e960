"""A Keras file of the authors' layers in a model, over-parameterized or plain."""

import math

import h5py
import keras
import numpy as np
import pytest
from keras import layers, ops

from do_conv import DOConvError, checkpoints
from do_conv.cli import main
from do_conv.tf import DOConvOptimizer, convert
from do_conv.tf.authors import DOConv2D

pytestmark = pytest.mark.usefixtures("one_reader")


class Theirs(layers.Layer):
    """A layer that stores and computes as the authors' TensorFlow code does."""

    def __init__(
        self, filters, kernel_size, D_mul=None, groups=1, use_bias=True, padding="valid", **options  # noqa: N803
    ):  # fmt: skip
        super().__init__(**options)
        sides = kernel_size if isinstance(kernel_size, tuple) else (kernel_size, kernel_size)
        self.sides, self.slots = sides, D_mul or math.prod(sides)
        self.filters, self.groups, self.has_bias = filters, groups, use_bias
        self.padding = padding

    def build(self, shape):
        channels, area = shape[-1], math.prod(self.sides)
        kernel = (self.slots, channels // self.groups, self.filters)
        self.kernel = self.add_weight(name="kernel", shape=kernel, initializer="random_normal")
        if self.has_bias:
            self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="normal")
        if area > 1:
            self.D = self.add_weight(
                name="D", shape=(area, self.slots, channels), initializer="random_normal"
            )

    def call(self, x):
        area, channels = math.prod(self.sides), x.shape[-1]
        kernel = self.kernel
        if area > 1:
            blocks = np.tile(np.eye(area), self.slots // area)
            diagonal = np.pad(blocks, ((0, 0), (0, self.slots % area)))[..., None]
            depthwise = self.D + diagonal.astype("float32")
            by_output = ops.reshape(kernel, (self.slots, channels, -1))
            kernel = ops.einsum("msi,sio->mio", depthwise, by_output)
        shape = (*self.sides, channels // self.groups, self.filters)
        y = ops.conv(x, ops.reshape(kernel, shape), padding=self.padding)
        return y + self.bias if self.has_bias else y


def plain(filters, kernel_size, D_mul=None, groups=1, **options):  # noqa: N803
    return layers.Conv2D(filters, kernel_size, groups=groups, **options)


def built(conv):
    """A model whose other layers have arrays of other names, in other orders, or none."""
    return keras.Sequential(
        [
            keras.Input((9, 8, 4)),
            conv(6, (3, 5), groups=2, padding="same"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.SeparableConv2D(5, 3, depth_multiplier=2),
            conv(4, 3, 18, use_bias=False),
            layers.DepthwiseConv2D(2),
            conv(3, 1),
            layers.Dropout(0.5),
            layers.Dense(2),
        ]
    )


def run(model):
    x = np.random.default_rng(0).standard_normal((2, 9, 8, 4)).astype("float32")
    return ops.convert_to_numpy(model(x, training=False))


def write(path, model, root=""):
    """As `save_weights`, or with a root `save`, of Keras 2 wrote a model's weights."""
    with h5py.File(path, "w") as file:
        top = file.require_group(root or "/")
        top.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        for layer in model.layers:
            group, names = top.create_group(layer.name), []
            for variable in [*layer.trainable_weights, *layer.non_trainable_weights]:
                if "seed" in variable.name:
                    continue  # Keras 2 kept no state of its random numbers
                is_depthwise = type(layer) is layers.DepthwiseConv2D and variable.name == "kernel"
                own = "depthwise_kernel" if is_depthwise else variable.name
                names.append(f"{layer.name}/{own}:0".encode())
                group[names[-1].decode()] = ops.convert_to_numpy(variable)
            group.attrs["weight_names"] = names


@pytest.fixture(scope="module")
def theirs():
    """A trained model of the authors' layers."""
    model = built(Theirs)
    rng = np.random.default_rng(1)
    model.set_weights([w + rng.uniform(0.1, 0.5, w.shape) for w in model.get_weights()])
    return model


@pytest.fixture
def path(theirs, tmp_path):
    """Its weights."""
    write(tmp_path / "theirs.h5", theirs)
    return tmp_path / "theirs.h5"


@pytest.fixture(scope="module")
def expected(theirs):
    """Its output."""
    return run(theirs)


def assert_output(model, expected):
    np.testing.assert_allclose(run(model), expected, rtol=0, atol=1e-5 * abs(expected).max())


@pytest.mark.parametrize("make", [DOConv2D, plain])
def test_a_model_of_either_kind(make, path, theirs, expected):
    model = built(make)
    report = checkpoints.import_authors(model, path)
    assert_output(model, expected)
    convs = [model.layers[place] for place in (0, 4, 6)]
    assert [layer.name for layer in report.layers] == [layer.name for layer in convs]
    assert [layer.kernel_size for layer in report.layers] == [(3, 5), (3, 3), (1, 1)]
    if make is DOConv2D:
        np.testing.assert_array_equal(convs[1].kernel, theirs.layers[4].kernel)
        assert np.any(convs[1].depthwise_delta)


def test_an_optimizer_takes_w_and_d(path, theirs, expected):
    model = built(plain)
    name = model.layers[4].name
    inner = keras.optimizers.SGD(0.1)
    optimizer = DOConvOptimizer(inner, model, where=name, d_mul=18)
    optimizer.build(model.trainable_variables)
    checkpoints.import_authors(optimizer, path)
    assert_output(model, expected)
    kernel = optimizer.kernels[name]
    np.testing.assert_array_equal(ops.convert_to_numpy(kernel.weight), theirs.layers[4].kernel)
    assert np.any(ops.convert_to_numpy(kernel.delta))


def test_a_file_of_a_whole_model_and_layers_of_both_kinds(theirs, expected, tmp_path):
    write(tmp_path / "theirs.h5", theirs, "model_weights")
    model = convert(built(plain), where=lambda name, layer: layer.kernel_size == (3, 5))
    checkpoints.import_authors(model, tmp_path / "theirs.h5")
    assert_output(model, expected)


def refused(model, path):
    """The sentence with which a file is refused, and the model stays as it was."""
    before = model.get_weights()
    with pytest.raises(DOConvError) as error:
        checkpoints.import_authors(model, path)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    return str(error.value)


def test_exception_a_model_of_other_layers(path):
    model = keras.Sequential([keras.Input((9, 8, 4)), DOConv2D(6, (3, 5), groups=2)])
    assert "received 8 layers in the file and 1 layer in the model" in refused(model, path)


def test_exception_a_layer_of_another_kind(path):
    some = built(plain).layers[:-1]
    model = keras.Sequential([keras.Input((9, 8, 4)), *some, layers.Conv2D(2, 1)])
    said = refused(model, path)
    assert "must have the same arrays; received {'kernel': (3, 2), 'bias': (2,)} in the" in said
    assert "in the file, {'kernel': (1, 1, 3, 2), 'bias': (2,)} in the model" in said


@pytest.mark.parametrize("make", [DOConv2D, plain])
def test_exception_other_channels(make, path):
    """Every layer's arrays have Keras's names, and its order of axes."""

    def wider(filters, *args, **options):
        return make(2 * filters, *args, **options)

    delta = ", 'depthwise_delta': (3, 5, 4, 15)" if make is DOConv2D else ""
    assert (
        f"received {{'kernel': (3, 5, 2, 6){delta}, 'bias': (6,)}} in the file, "
        f"{{'kernel': (3, 5, 2, 12){delta}, 'bias': (12,)}} in the model"
    ) in refused(built(wider), path)


def test_exception_other_normalization_and_depthwise_layers(path):
    some = built(plain).layers
    norm = layers.BatchNormalization(scale=False)
    model = keras.Sequential([keras.Input((9, 8, 4)), some[0], norm, *some[2:]])
    said = refused(model, path)
    assert "received {'gamma': (6,), 'beta': (6,), 'moving_mean': (6,), 'moving_var" in said
    assert "{'beta': (6,), 'moving_mean': (6,), 'moving_variance': (6,)} in the model" in said
    wide = layers.DepthwiseConv2D(3)
    model = keras.Sequential([keras.Input((9, 8, 4)), *some[:5], wide, *built(plain).layers[6:]])
    said = refused(model, path)
    assert "received {'depthwise_kernel': (2, 2, 4, 1), 'bias': (4,)} in the file" in said
    assert "{'kernel': (3, 3, 4, 1), 'bias': (4,)} in the model" in said


def test_exception_a_kernel_that_is_not_finite(path):
    with h5py.File(path, "r+") as file:
        (layer,) = [
            name
            for name in file
            if f"{name}/D:0" in file[name] and file[name][f"{name}/kernel:0"].shape[0] == 18
        ]
        file[layer][f"{layer}/kernel:0"][0] = np.nan
    assert f"layer '{layer}/{layer}' with NaN or infinite values in its kernel" in refused(
        built(plain), path
    )


@pytest.mark.parametrize("shared_axes", [[1, 2], [1, 2, 3]])
def test_slopes(shared_axes, tmp_path):
    def made(conv):
        slopes = layers.PReLU(shared_axes=shared_axes, alpha_initializer="random_normal")
        return keras.Sequential([keras.Input((9, 8, 4)), conv(6, 3), slopes])

    theirs, model = made(Theirs), made(plain)
    write(tmp_path / "theirs.h5", theirs)
    checkpoints.import_authors(model, tmp_path / "theirs.h5")
    np.testing.assert_array_equal(model.layers[1].alpha, theirs.layers[1].alpha)
    assert_output(model, run(theirs))


def test_exception_another_kernel(path):
    model = built(lambda filters, size, *args, **options: plain(filters, 3, **options))
    assert "number of kernel positions; received 15 in the file, 9 in" in refused(model, path)


def test_exception_a_listed_array_that_is_missing(path):
    with h5py.File(path, "r+") as file:
        (layer,) = [name for name in file if f"{name}/gamma:0" in file[name]]
        del file[layer][f"{layer}/gamma:0"]
    assert f"theirs.h5 without {layer}/{layer}/gamma:0" in refused(built(DOConv2D), path)


def test_exception_a_file_without_an_order(tmp_path):
    with h5py.File(tmp_path / "in.weights.h5", "w") as file:
        file["layers/do_conv2d/vars/0"] = np.ones((9, 4, 6))
        file["layers/do_conv2d/vars/1"] = np.ones((9, 9, 4))
    said = refused(built(DOConv2D), tmp_path / "in.weights.h5")
    assert "must list its layers" in said
    assert "in.weights.h5 without layer_names" in said


def test_exception_a_network_of_another_framework(tmp_path):
    np.savez(tmp_path / "in.npz", W=np.ones((6, 4, 9)), D=np.zeros((4, 9, 9)))
    said = refused(built(plain), tmp_path / "in.npz")
    assert "a Keras network for in.npz, which is of the authors' code for PyTorch" in said


NETWORK = """
import keras
from do_conv.tf.authors import DOConv2D

def ours():
    return keras.Sequential([keras.Input((12, 12, 4)), DOConv2D(6, 3, name="first")])
"""


def test_the_command(load_sample, tmp_path, monkeypatch, capsys):
    sample = load_sample("tf_conv3x3")
    config = {k: tuple(v) if isinstance(v, list) else v for k, v in sample.config.items()}
    config.pop("in_channels")
    source, target = str(tmp_path / "in.h5"), str(tmp_path / "out.weights.h5")
    names = [f"first/{name}:0" for name in sample.state]
    with h5py.File(source, "w") as file:
        for name, array in zip(names, sample.state.values(), strict=True):
            file[f"first/{name}"] = array
        file["first"].attrs["weight_names"] = [name.encode() for name in names]
        file.attrs["layer_names"] = [b"first"]
    module = f"keras_to_import_into_{abs(hash(tmp_path))}"
    (tmp_path / f"{module}.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    assert main(["import", source, target, "--into", f"{module}:ours"]) == 0
    assert "Imported 1 layer" in capsys.readouterr().out
    model = keras.Sequential([keras.Input(sample.x.shape[1:]), DOConv2D(**config)])
    model.load_weights(target)
    sample.assert_same_output(ops.convert_to_numpy(model(sample.x)))
    assert main(["import", source, source, "--into", f"{module}:ours"]) == 2
    assert "unknown checkpoint format '.h5'" in capsys.readouterr().err
