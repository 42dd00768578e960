"""The network in each framework: one module each, with one class `Network` of the same methods."""

from __future__ import annotations

import importlib
from typing import Any, Protocol

import numpy as np


class Network(Protocol):
    """A network made by `Network(start, over_parameterized)`, on images in the core's layout."""

    def train(self, x: np.ndarray, y: np.ndarray) -> None:
        """One step of SGD on a batch."""

    def logits(self, x: np.ndarray) -> np.ndarray:
        """The outputs `(n, 10)` for images `(n, 1, 8, 8)`."""

    def fold(self) -> Network:
        """The same network with plain layers."""

    def parameters(self) -> int:
        """How many numbers it holds."""

    def kernels(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """W and D' of each convolution in the core's layout, while it has a D'."""


def load(framework: str) -> Any:
    """The class `Network` of a framework."""
    return importlib.import_module(f"do_conv.demo.backends.{framework}").Network
