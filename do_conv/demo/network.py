"""The network: three 3 x 3 convolutions, a pooling between, an average and a linear layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

KERNEL, PADDING, CLASSES = 3, 1, 10
CHANNELS = ((1, 16), (16, 32), (32, 32))
POOL_AFTER = 1  # the convolution a 2 x 2 max pooling follows

RATE, MOMENTUM = 0.05, 0.9


@dataclass(frozen=True)
class Start:
    """Where both arms start, in the core's layout; every bias starts at zero."""

    kernels: tuple[np.ndarray, ...]
    linear: np.ndarray  # (features, classes)


def start(seed: int) -> Start:
    """He's normal start for the convolutions, Glorot's uniform one for the linear layer."""
    rng = np.random.default_rng(seed)
    kernels = tuple(
        rng.normal(0, np.sqrt(2 / (i * KERNEL**2)), (o, i, KERNEL, KERNEL)).astype("float32")
        for i, o in CHANNELS
    )
    features = CHANNELS[-1][1]
    limit = np.sqrt(6 / (features + CLASSES))
    return Start(kernels, rng.uniform(-limit, limit, (features, CLASSES)).astype("float32"))
