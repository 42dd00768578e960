"""The network: three 3 x 3 convolutions, a pooling between, an average and a dense layer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from do_conv import frameworks
from do_conv.adapter import DELTA, SGD, Adapter, Dense, LayerArray
from do_conv.parity.cases import Case

KERNEL, CLASSES, SIZE = 3, 10, (8, 8)
CHANNELS = ((1, 16), (16, 32), (32, 32))
LAYERS = [
    Case(f"layer {i}", channels, (KERNEL, KERNEL), SIZE, padding=1)
    for i, channels in enumerate(CHANNELS, 1)
]
DENSE = Dense(CHANNELS[-1][1], CLASSES)
OPTIONS = SGD(rate=0.05, momentum=0.9)
# In float32 rounding differences grow until accuracies differ; in float64 they do not.
DTYPE = "float64"


class Network:
    """A network with its optimizer; images `(n, 1, 8, 8)` and outputs `(n, 10)`.

    Args:
        adapter: of the framework.
        model: the framework's model.
        by: the optimizer of a plain network's W and D'; None is one of the network's parameters.

    Attributes:
        model: the framework's model.
    """

    def __init__(self, adapter: Adapter, model: Any, by: Any = None) -> None:
        self._adapter, self.model = adapter, model
        self._step = adapter.trainer(model, "cross-entropy", OPTIONS, by)

    def train(self, x: np.ndarray, y: np.ndarray) -> None:
        """Make one step on images and their classes."""
        self._step(x.astype(DTYPE), y)

    def over_parameterized(self) -> Network:
        """The same network with DO-Conv layers."""
        return Network(self._adapter, frameworks.backend(self.model).convert(self.model))

    def in_optimizer(self) -> Network:
        """The same plain network with DO-Conv in its optimizer."""
        by = self._adapter.kernel_optimizer(self.model, OPTIONS, None)
        return Network(self._adapter, self.model, by)

    def folded(self) -> Network:
        """The same network with plain layers."""
        return Network(self._adapter, frameworks.backend(self.model).fold(self.model))

    def logits(self, x: np.ndarray) -> np.ndarray:
        """The outputs for images."""
        return self._adapter.run(self.model, x.astype(DTYPE))

    def parameters(self) -> int:
        """How many numbers it holds."""
        return sum(math.prod(array.shape) for arrays in self._arrays() for array in arrays.values())

    def kernels(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """W and D' of each convolution that has a D'."""
        return [
            (arrays["weight"].read(), arrays[DELTA].read())
            for arrays in self._arrays()
            if DELTA in arrays
        ]

    def _arrays(self) -> Iterator[Mapping[str, LayerArray]]:
        return (layer.arrays for layer in self._adapter.model_layers(self.model))


def plain(adapter: Adapter, seed: int) -> Network:
    """A network of plain layers: He's normal start, and Glorot's uniform one for the dense layer.

    Every bias starts at zero.
    """
    first, second, third = (adapter.layer(case, DTYPE).fold() for case in LAYERS)
    parts = (first, "relu", second, "relu", "pool", third, "relu", "average", DENSE)
    model = adapter.network(parts)
    layers = list(adapter.model_layers(model))
    for layer, weight in zip(layers, _weights(seed), strict=True):
        layer.arrays["weight"].write(weight)
        layer.arrays["bias"].write(np.zeros(len(weight), DTYPE))
    return Network(adapter, model)


def _weights(seed: int) -> Iterator[np.ndarray]:
    """The kernels, and the dense layer's weights `(classes, features)`."""
    rng = np.random.default_rng(seed)
    for i, o in CHANNELS:
        kernel = rng.normal(0, np.sqrt(2 / (i * KERNEL**2)), (o, i, KERNEL, KERNEL))
        yield kernel
    limit = np.sqrt(6 / (DENSE.inputs + DENSE.outputs))
    yield rng.uniform(-limit, limit, (DENSE.inputs, DENSE.outputs)).T
