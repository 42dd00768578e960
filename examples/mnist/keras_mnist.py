"""The authors' demonstration in TensorFlow: two convolutions and a dense layer.

    python -m examples.mnist.keras_mnist --data DIR

Their readme gives 98.504 % for the plain network and 98.682 % with DO-Conv. It does not give the
nonlinearity, the padding, or the learning rate: ReLU, none, and Keras's 0.001 are assumed.
"""

from __future__ import annotations

import sys

import keras
import numpy as np

from do_conv.tf import convert
from examples.mnist.data import Images
from examples.mnist.run import Demonstration
from examples.mnist.run import main as run_all

BATCH = 32


class Keras:
    """A compiled model."""

    def __init__(self, arm: str, seed: int) -> None:
        keras.utils.set_random_seed(seed)
        model = keras.Sequential([
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ])  # fmt: skip
        self.model = model if arm == "plain" else convert(model)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.model.compile(keras.optimizers.Adam(), loss)

    def train(self, images: np.ndarray, classes: np.ndarray) -> None:
        """One pass over the images."""
        self.model.fit(images[..., None], classes, batch_size=BATCH, shuffle=False, verbose=0)

    def classes(self, images: np.ndarray) -> np.ndarray:
        """The classes it gives images."""
        return self.model.predict_on_batch(images[..., None]).argmax(1)


def download() -> tuple[Images, Images]:
    """Through Keras."""
    train, test = keras.datasets.mnist.load_data()
    return Images(*train), Images(*test)


DEMONSTRATION = Demonstration(
    framework="keras",
    epochs=5,
    training=60_000,
    settings={"batch": BATCH, "optimizer": "Adam 0.001", "backend": keras.backend.backend()},
    packages=("keras", "tensorflow-cpu"),
    download=download,
    arm=Keras,
)


def main(arguments: list[str] | None = None) -> int:
    """Run every seed of both arms."""
    return run_all(DEMONSTRATION, arguments)


if __name__ == "__main__":
    sys.exit(main())
