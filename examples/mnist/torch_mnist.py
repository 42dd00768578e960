"""The authors' demonstration in PyTorch: three convolutions of stride 2, and an average.

    python -m examples.mnist.torch_mnist --data DIR

Trained on the first 50,000 training images; the accuracy is that of the other 10,000. Their readme
gives 95.156 % for the plain network and 95.674 % with DO-Conv.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from torch import nn

from do_conv.torch import convert
from do_conv.zoo import import_torchvision
from examples.mnist.data import Images
from examples.mnist.run import Demonstration, batches
from examples.mnist.run import main as run_all

BATCH, RATE, MOMENTUM = 32, 0.01, 0.9


class Torch:
    """A network and its optimizer."""

    def __init__(self, arm: str, seed: int) -> None:
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(16, 16, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(16, 10, 3, stride=2, padding=1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )  # fmt: skip
        self.model = model if arm == "plain" else convert(model)
        self.optimizer = torch.optim.SGD(self.model.parameters(), RATE, MOMENTUM)

    def train(self, images: np.ndarray, classes: np.ndarray) -> None:
        """One pass over the images."""
        self.model.train()
        for x, y in batches(BATCH, images[:, None], classes):
            outputs = self.model(torch.from_numpy(x))
            loss = nn.functional.cross_entropy(outputs, torch.from_numpy(y.astype("int64")))
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()

    @torch.no_grad()
    def classes(self, images: np.ndarray) -> np.ndarray:
        """The classes it gives images."""
        return self.model.eval()(torch.from_numpy(images[:, None])).argmax(1).numpy()


def download() -> tuple[Images, Images]:
    """Through torchvision."""
    dataset = import_torchvision().datasets.MNIST
    parts = [dataset("data", train=train, download=True) for train in (True, False)]
    train, test = (Images(part.data.numpy(), part.targets.numpy()) for part in parts)
    return train, test


DEMONSTRATION = Demonstration(
    framework="torch",
    epochs=15,
    training=50_000,
    settings={"batch": BATCH, "optimizer": f"SGD {RATE}, momentum {MOMENTUM}"},
    packages=("torch",),
    download=download,
    arm=Torch,
)


def main(arguments: list[str] | None = None) -> int:
    """Run every seed of both arms."""
    return run_all(DEMONSTRATION, arguments)


if __name__ == "__main__":
    sys.exit(main())
