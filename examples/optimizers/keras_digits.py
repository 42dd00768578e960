#!/usr/bin/env python3
"""How far D' and W move under the optimizers of Keras that scale by a norm.

    python examples/optimizers/keras_digits.py --epochs 6

Each row is a small network after some epochs of eight steps on handwritten digits: the norm of D'
of its second convolution, that norm relative to the norm of the identity, and how far W moved
relative to itself.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import keras
import numpy as np
from keras import optimizers

from do_conv.demo import digits
from do_conv.tf import DOConv2D

OPTIMIZERS: dict[str, Any] = {
    "SGD": lambda: optimizers.SGD(0.1, 0.9),
    "SGD(clipnorm=0.01)": lambda: optimizers.SGD(0.1, 0.9, clipnorm=0.01),
    "SGD(use_ema=True)": lambda: optimizers.SGD(0.1, 0.9, use_ema=True),
    "AdamW": lambda: optimizers.AdamW(0.01),
    "Muon": lambda: optimizers.Muon(0.01),
    "Lamb": lambda: optimizers.Lamb(0.01),
    "Adafactor": lambda: optimizers.Adafactor(0.01),
    "Adafactor(relative_step=False)": lambda: optimizers.Adafactor(0.01, relative_step=False),
}


def main(arguments: list[str] | None = None) -> int:
    """Print a row for each optimizer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=6)
    epochs = parser.parse_args(arguments).epochs
    print(f"{'':34}{'|D-I|':>9}{'|D-I|/|I|':>11}{'W moved':>9}")
    for name, make in OPTIMIZERS.items():
        print(f"{name:34}{'{:9.2g}{:11.2g}{:9.2g}'.format(*moved(make(), epochs))}")
    return 0


def moved(optimizer: Any, epochs: int) -> tuple[float, float, float]:
    """How far D' and W of the second convolution are from their start."""
    keras.utils.set_random_seed(0)
    data = digits.load()
    model = network()
    layer = model.get_layer("second")
    start = keras.ops.convert_to_numpy(layer.kernel)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    images, classes = np.moveaxis(data.train_x[:256], 1, -1), data.train_y[:256]
    model.fit(images, classes, batch_size=32, epochs=epochs, shuffle=False, verbose=0)
    delta = float(np.linalg.norm(keras.ops.convert_to_numpy(layer.depthwise_delta)))
    kernel, identity = keras.ops.convert_to_numpy(layer.kernel), (16 * 9) ** 0.5
    return delta, delta / identity, float(np.linalg.norm(kernel - start) / np.linalg.norm(start))


def network() -> Any:
    """Two convolutions with batch normalisation, and a classifier."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            DOConv2D(16, 3, padding="same", use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            DOConv2D(16, 3, strides=2, padding="same", use_bias=False, name="second"),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(10),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
