"""A converted, trained and folded Keras model through Keras's export, and where we are not."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from do_conv.tf import convert, fold, verify

BACKEND = keras.backend.backend()
# What the tests set for JAX, so that the other process rounds as this one does.
SETTINGS = {"JAX_ENABLE_X64": "1", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
# Runs a saved model where nothing but Keras is imported.
ELSEWHERE = """
import sys, keras, numpy as np
folder = sys.argv[1]
model = keras.models.load_model(f"{folder}/folded.keras")
x = np.load(f"{folder}/inputs.npz")
outputs = model([x["one"], x["two"]], training=False)
assert not [name for name in sys.modules if name.partition(".")[0] == "do_conv"]
np.savez(f"{folder}/outputs.npz", **{k: keras.ops.convert_to_numpy(v) for k, v in outputs.items()})
"""


@pytest.fixture
def folded(network, x):
    """The network, converted, trained and folded."""
    model = convert(network)
    model.compile(keras.optimizers.SGD(1e-3), {"small": "mse", "large": "mse"})
    model.fit(x, {name: np.zeros(tuple(y.shape)) for name, y in network(x).items()}, verbose=0)
    deltas = [v for v in model.weights if v.name == "depthwise_delta"]
    assert len(deltas) == 4
    assert all(abs(keras.ops.convert_to_numpy(v)).max() > 0 for v in deltas)
    made = fold(model)
    assert verify(model, made, x) < 1e-6
    return made


def assert_equal(found, expected):
    """To the last bit, by name."""
    assert sorted(found) == sorted(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(np.array(found[name]), keras.ops.convert_to_numpy(value))


@pytest.mark.skipif(
    BACKEND != "tensorflow", reason="a saved model of TensorFlow's is made of a model of TensorFlow"
)
def test_a_saved_model_of_tensorflow(folded, x, tmp_path):
    tf = pytest.importorskip("tensorflow")
    folder = str(tmp_path / "exported")
    folded.export(folder, verbose=False)
    served = tf.saved_model.load(folder)
    for batch in (1, 2):
        given = [one[:batch] for one in x]
        assert_equal(served.serve(given), folded(given))
    layer = keras.layers.TFSMLayer(folder, call_endpoint="serve")
    assert_equal(layer(x), folded(x))


def test_an_archive_is_loaded_without_us(folded, x, tmp_path):
    folded.save(tmp_path / "folded.keras")
    np.savez(tmp_path / "inputs.npz", one=x[0], two=x[1])
    command = [sys.executable, "-c", ELSEWHERE, str(tmp_path)]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, **SETTINGS},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "outputs.npz") as found:
        assert_equal(dict(found), folded(x))
