"""The demo's network in Keras."""

from __future__ import annotations

from typing import Any

import do_conv.tf as do_keras  # isort: skip  # says what is missing before keras is imported
import keras
import numpy as np
from keras import ops

from do_conv.core import layouts
from do_conv.demo import network
from do_conv.demo.network import Start

_SIZE = (8, 8, 1)


class Network:
    """See `do_conv.demo.backends.Network`."""

    def __init__(self, start: Start, over_parameterized: bool) -> None:
        layer = do_keras.DOConv2D if over_parameterized else keras.layers.Conv2D
        options: Any = {"padding": "same", "activation": "relu", "data_format": "channels_last"}
        convolutions = [layer(o, network.KERNEL, **options) for _, o in network.CHANNELS]
        linear = keras.layers.Dense(network.CLASSES)
        self._assemble(convolutions, linear)
        for convolution, kernel in zip(convolutions, start.kernels, strict=True):
            convolution.kernel.assign(layouts.kernel_to_keras(kernel))
        linear.kernel.assign(start.linear)

    def _assemble(self, convolutions: list[Any], linear: Any) -> None:
        layers: list[Any] = [keras.Input(_SIZE)]
        for index, convolution in enumerate(convolutions):
            layers.append(convolution)
            if index == network.POOL_AFTER:
                layers.append(keras.layers.MaxPooling2D(2, data_format="channels_last"))
        average = keras.layers.GlobalAveragePooling2D(data_format="channels_last")
        self._convolutions, self._linear = convolutions, linear
        self._model = keras.Sequential([*layers, average, linear])
        self._model.compile(
            keras.optimizers.SGD(network.RATE, network.MOMENTUM),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )

    def train(self, x: np.ndarray, y: np.ndarray) -> None:
        """One step of SGD on a batch."""
        self._model.train_on_batch(layouts.channels_last(x), y)

    def logits(self, x: np.ndarray) -> np.ndarray:
        """The outputs for images."""
        return self._model.predict_on_batch(layouts.channels_last(x))

    def fold(self) -> Network:
        """The same network with plain layers."""
        folded = object.__new__(Network)
        folded._assemble([layer.fold() for layer in self._convolutions], self._linear)
        return folded

    def parameters(self) -> int:
        """How many numbers it holds."""
        return int(self._model.count_params())

    def kernels(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """W and D' of each convolution."""
        return [
            (
                layouts.kernel_from_keras(ops.convert_to_numpy(layer.kernel)),
                layouts.delta_from_keras(ops.convert_to_numpy(layer.depthwise_delta)),
            )
            for layer in self._convolutions
        ]
