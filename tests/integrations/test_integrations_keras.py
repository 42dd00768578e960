"""Keras: the callback that saves the plain model, and quantisation after folding."""

import subprocess
import sys

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="Keras is not installed")

from do_conv import DOConvError
from do_conv.integrations.keras import FoldedCheckpoint
from do_conv.tf import DOConvOptimizer, convert, fold

RANDOM = np.random.default_rng(0)
IMAGES, CLASSES = RANDOM.standard_normal((12, 8, 8, 3)), np.arange(12) % 3
DOORS = ("layers", "optimizer")


def network():
    keras.utils.set_random_seed(0)
    return keras.Sequential([
        keras.Input((8, 8, 3)),
        keras.layers.Conv2D(4, 3, padding="same", name="first"),
        keras.layers.BatchNormalization(),
        keras.layers.Conv2D(4, 3, groups=2, activation="relu", name="second"),
        keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3),
    ])  # fmt: skip


class Losses(keras.callbacks.Callback):
    """Give each epoch the validation loss that a list says, and keep the model's outputs."""

    def __init__(self, losses):
        super().__init__()
        self.losses, self.outputs = losses, []

    def on_epoch_end(self, epoch, logs=None):
        logs["val_loss"] = self.losses[epoch]
        self.outputs.append(keras.ops.convert_to_numpy(self.model(IMAGES)))


def trained(door, *callbacks, epochs=3):
    """A model after some epochs, by layers or by the optimizer."""
    model = convert(network()) if door == "layers" else network()
    optimizer = keras.optimizers.SGD(0.5, momentum=0.9)
    if door == "optimizer":
        optimizer = DOConvOptimizer(optimizer, model)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, run_eagerly=True)  # tracing takes longer than these steps
    model.fit(IMAGES, CLASSES, 6, epochs, verbose=0, shuffle=False, callbacks=list(callbacks))
    return model


@pytest.mark.parametrize("door", DOORS)
def test_the_plain_model_of_the_best_epoch_is_saved(door, tmp_path):
    losses = Losses([2.0, 1.0, 3.0])
    trained(door, losses, FoldedCheckpoint(tmp_path / "best.keras"))
    plain = keras.models.load_model(tmp_path / "best.keras")
    assert [type(layer) for layer in plain.layers] == [type(layer) for layer in network().layers]
    outputs = keras.ops.convert_to_numpy(plain(IMAGES))
    np.testing.assert_allclose(outputs, losses.outputs[1], rtol=0, atol=2e-6)
    for other in (0, 2):
        assert np.abs(outputs - losses.outputs[other]).max() > 1e-3


def test_the_files_need_no_do_conv(tmp_path):
    paths = [str(tmp_path / f"{door}.keras") for door in DOORS]
    for door, path in zip(DOORS, paths, strict=True):
        trained(door, FoldedCheckpoint(path, save_best_only=False), epochs=1)
    code = (
        "import sys, keras\n"
        f"print(*[len(keras.models.load_model(path).layers) for path in {paths!r}])\n"
        "print('do_conv' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.split() == ["5", "5", "False"]


@pytest.mark.parametrize("door", DOORS)
def test_a_file_of_weights_is_one_of_the_plain_model(door, tmp_path):
    saving = FoldedCheckpoint(
        tmp_path / "{epoch}.weights.h5", save_best_only=False, save_weights_only=True
    )
    model = trained(door, saving, epochs=2)
    plain, expected = network(), fold(model) if door == "layers" else model
    plain.load_weights(tmp_path / "2.weights.h5")
    for value, same in zip(plain.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(value, same)
    assert {path.name for path in tmp_path.iterdir()} == {"1.weights.h5", "2.weights.h5"}


def test_the_callback_changes_no_training(tmp_path):
    for door in DOORS:
        saving = FoldedCheckpoint(tmp_path / "m.keras", save_best_only=False)
        with_it, without = trained(door, saving), trained(door)
        for value, same in zip(with_it.get_weights(), without.get_weights(), strict=True):
            np.testing.assert_array_equal(value, same)


def test_a_subclassed_model_is_an_error(tmp_path):
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.inside = network()

        def call(self, x):
            return self.inside(x)

    model = Own()
    optimizer = DOConvOptimizer(keras.optimizers.SGD(0.1), model)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    saving = FoldedCheckpoint(tmp_path / "m.keras", save_best_only=False)
    with pytest.raises(DOConvError, match="must be a Functional or Sequential model"):
        model.fit(IMAGES, CLASSES, verbose=0, callbacks=[saving])
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method:UserWarning")
def test_a_folded_model_is_quantised_as_a_plain_one():
    plain = fold(trained("layers"))
    exact = keras.ops.convert_to_numpy(plain(IMAGES))
    twin = network()
    twin.set_weights(plain.get_weights())
    for model in (plain, twin):
        model.quantize("int8")
    assert plain.layers[-1].dtype_policy.name == "int8_from_float32"
    outputs, same = (keras.ops.convert_to_numpy(model(IMAGES)) for model in (plain, twin))
    np.testing.assert_array_equal(outputs, same)
    assert 0 < np.abs(outputs - exact).max() < 0.05 * np.abs(exact).max()
