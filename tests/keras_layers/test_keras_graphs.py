"""Exported models, and training compiled by XLA."""

import keras
import numpy as np
import pytest

from do_conv.tf import DepthwiseSeparableConv2D, DOConv2D, DOConv2DTranspose, DODepthwiseConv2D

BACKEND = keras.backend.backend()


def numbers(tensor):
    return keras.ops.convert_to_numpy(tensor)


def network():
    """Each kind of layer; the feature composition of one."""
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            DOConv2D(4, 3, padding="same", groups=2, d_mul=12, activation="relu"),
            DODepthwiseConv2D(2, composition="feature"),
            DepthwiseSeparableConv2D(4, 2),
            DOConv2DTranspose(2, 3, strides=2, padding="same"),
        ]
    )
    random = np.random.default_rng(1)
    for variable in model.weights:
        variable.assign(0.3 * random.standard_normal(tuple(variable.shape)))
    return model


def an_input(batch):
    return np.random.default_rng(0).standard_normal((batch, 6, 6, 2)).astype("float32")


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * abs(expected).max())


@pytest.mark.skipif(BACKEND == "torch", reason="Keras cannot export a model of PyTorch's as one")
def test_a_saved_model_of_tensorflow(tmp_path):
    tf = pytest.importorskip("tensorflow")
    model = network()
    model.export(tmp_path / "exported", verbose=False)
    served = tf.saved_model.load(tmp_path / "exported")
    for batch in (1, 3):
        close(served.serve(an_input(batch)).numpy(), numbers(model(an_input(batch))))


@pytest.mark.skipif(BACKEND != "torch", reason="elsewhere Keras needs tf2onnx or jax2onnx for it")
# PyTorch says that its exporter is the old one, and what the trace takes for a constant.
@pytest.mark.filterwarnings("ignore")
def test_onnx(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    model = network()
    expected = numbers(model(an_input(1)))
    model.export(tmp_path / "exported.onnx", format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "exported.onnx")
    close(session.run(None, {session.get_inputs()[0].name: an_input(1)})[0], expected)


@pytest.mark.skipif(BACKEND == "torch", reason="torch.compile takes more than a minute here")
def test_a_step_compiled_by_xla_is_the_step():
    weights = []
    for jit_compile in (False, True):
        model = network()
        before = [np.array(value) for value in model.get_weights()]
        model.compile(keras.optimizers.SGD(0.01), "mse", jit_compile=jit_compile)
        model.fit(an_input(4), np.ones((4, *model.output_shape[1:])), verbose=0)
        weights.append(model.get_weights())
    for old, expected, found in zip(before, *weights, strict=True):
        assert abs(expected - old).max() > 1e-6
        close(found, expected)
