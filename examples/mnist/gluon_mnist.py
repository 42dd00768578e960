"""The authors' demonstration in MXNet Gluon: LeNet.

    python -m examples.mnist.gluon_mnist --data DIR

Their readme gives 98.10 % for the plain network and 98.26 % with DO-Conv. It does not say where
tanh stands: as in MXNet's own tutorial it follows every layer, the last one too, which bounds the
outputs to -1 and 1 and is why the figures are lower than LeNet's usual ones.
"""

from __future__ import annotations

import sys

from do_conv.gluon import convert  # before mxnet

# isort: split
import mxnet as mx
import numpy as np
from mxnet import autograd, gluon
from mxnet.gluon import nn

from examples.mnist.data import Images
from examples.mnist.run import Demonstration, batches
from examples.mnist.run import main as run_all

BATCH, RATE, MAGNITUDE = 100, 0.03, 2.24


class Gluon:
    """A network and its trainer."""

    def __init__(self, arm: str, seed: int) -> None:
        mx.random.seed(seed)
        model = nn.HybridSequential()
        model.add(
            nn.Conv2D(20, 5, activation="tanh", in_channels=1), nn.MaxPool2D(2),
            nn.Conv2D(50, 5, activation="tanh", in_channels=20), nn.MaxPool2D(2),
            nn.Flatten(), nn.Dense(500, activation="tanh", in_units=800),
            nn.Dense(10, activation="tanh", in_units=500),
        )  # fmt: skip
        model.initialize(mx.init.Xavier(magnitude=MAGNITUDE))
        self.model = model if arm == "plain" else convert(model)
        self.model.hybridize()
        self.trainer = gluon.Trainer(self.model.collect_params(), "sgd", {"learning_rate": RATE})
        self.loss = gluon.loss.SoftmaxCrossEntropyLoss()

    def train(self, images: np.ndarray, classes: np.ndarray) -> None:
        """One pass over the images."""
        for x, y in batches(BATCH, images[:, None], classes):
            with autograd.record():
                loss = self.loss(self.model(mx.nd.array(x)), mx.nd.array(y))
            loss.backward()
            self.trainer.step(len(x))

    def classes(self, images: np.ndarray) -> np.ndarray:
        """The classes it gives images."""
        return self.model(mx.nd.array(images[:, None])).argmax(1).asnumpy()


def download() -> tuple[Images, Images]:
    """Through MXNet."""
    parts = [gluon.data.vision.MNIST(train=train) for train in (True, False)]
    train, test = (Images(part._data.asnumpy()[..., 0], part._label) for part in parts)
    return train, test


DEMONSTRATION = Demonstration(
    framework="gluon",
    epochs=10,
    training=60_000,
    settings={
        "batch": BATCH, "optimizer": f"SGD {RATE}", "start": f"Xavier, magnitude {MAGNITUDE}",
    },
    packages=("mxnet",),
    download=download,
    arm=Gluon,
)  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Run every seed of both arms."""
    return run_all(DEMONSTRATION, arguments)


if __name__ == "__main__":
    sys.exit(main())
