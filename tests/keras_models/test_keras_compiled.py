"""Conversions of compiled Keras models."""

import warnings

import keras
import numpy as np
import pytest

from do_conv.tf import convert, fold


def start():
    return keras.Input((8, 8, 3), name="start")


def an_input(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype("float32")


def squares(target, outputs):
    return keras.ops.mean((target - outputs) ** 2)


@pytest.mark.parametrize("loss", ["mse", keras.losses.Huber(0.5), lambda t, y: squares(t, y) + 1])
def test_a_compiled_model_stays_compiled(loss):
    model = keras.Sequential([start(), keras.layers.Conv2D(2, 3)])
    model.compile(keras.optimizers.SGD(0.125, momentum=0.5), loss, metrics=["mae"])
    model.fit(an_input(2, 8, 8, 3), an_input(2, 6, 6, 2), verbose=0)
    converted = convert(model)
    for new in (converted, fold(converted)):
        assert float(new.optimizer.learning_rate) == 0.125
        assert int(new.optimizer.iterations) == 0
        # Its variables are there before training, as a file of them needs.
        assert new.optimizer.built
        expected = model.evaluate(an_input(2, 8, 8, 3), an_input(2, 6, 6, 2), verbose=0)
        found = new.evaluate(an_input(2, 8, 8, 3), an_input(2, 6, 6, 2), verbose=0)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        new.fit(an_input(2, 8, 8, 3), an_input(2, 6, 6, 2), verbose=0)


class OwnCompile(keras.Model):
    def compile(self, **kwargs):
        super().compile(**kwargs)


@pytest.mark.parametrize(
    ("make", "metric", "reason"),
    [
        (keras.Model, squares, "one that fails with: Could not locate function"),
        (OwnCompile, "mae", "a OwnCompile, with a compile.. of its own"),
    ],
)
def test_a_compile_that_cannot_be_repeated_is_said(make, metric, reason):
    inputs = start()
    model = make(inputs, keras.layers.Conv2D(2, 3)(inputs))
    model.compile(optimizer="sgd", loss="mse", metrics=[metric])
    with pytest.warns(UserWarning, match=f"received {reason}.*; call compile.. of the new"):
        converted = convert(model)
    assert not converted.compiled
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fold(converted)
