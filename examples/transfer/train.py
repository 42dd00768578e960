"""Fine-tune a ResNet-20 that was trained on CIFAR-10 to CIFAR-100, plain and with DO-Conv.

    python -m examples.transfer.train --data DIR --weights FILE --percent 1 10

FILE is a checkpoint of PyTorch with the weights of the ResNet-20 of He et al. for CIFAR-10, such as
`resnet20` of https://github.com/akamaster/pytorch_resnet_cifar10. All layers are trained; the
classifier is new. Both arms have the same weights, steps and batches.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from examples import tasks
from examples.cifar import data, networks

STEPS, BATCH = 150, 32
NETWORK, CLASSES, CLASSES_BEFORE = "resnet_v1_20", 100, 10
EPOCHS = {1: 2, 10: 8, 100: 8}  # by the share of the images in %
# Of the images that the network was trained on before.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TEST_BATCH = 500


def main(arguments: list[str] | None = None) -> int:
    """Run every seed of both arms for each share of the images."""
    return tasks.run_all(_arguments().parse_args(arguments), made)


def _arguments() -> argparse.ArgumentParser:
    about = "the folder that holds cifar-100-binary"
    parser = tasks.arguments(__doc__.splitlines()[0], about)
    add = parser.add_argument
    add("--weights", type=Path, required=True, help="of the ResNet-20, a state dict")
    add(
        "--percent", nargs="+", type=int, choices=EPOCHS, default=[*EPOCHS],
        help="of the training images of each class",
    )  # fmt: skip
    return parser


def made(given: argparse.Namespace) -> Iterable[FineTuning]:
    """A task for each share of the training images."""
    if given.data is None:
        raise ValueError("give --data the folder that holds cifar-100-binary")
    weights = pretrained(given.weights)
    digest = hashlib.sha256(given.weights.read_bytes()).hexdigest()[:16]
    train, test = (scaled(part) for part in data.load("cifar100", given.data))
    for percent in given.percent:
        yield FineTuning(share(train, percent), test, percent, weights, digest)


class FineTuning:
    """A share of CIFAR-100, and a network that knows CIFAR-10; see `examples.tasks.Task`."""

    training = tasks.Training()

    def __init__(
        self, train: data.Images, test: data.Images, percent: int, weights: dict[str, Tensor],
        digest: str,
    ) -> None:  # fmt: skip
        self._train, self._test, self._weights = train, test, weights
        self.name, self.epochs = f"transfer-{NETWORK}-{percent}", EPOCHS[percent]
        self.settings: dict[str, Any] = {
            "dataset": "cifar100", "percent": percent, "network": NETWORK, "weights": digest,
            "steps": STEPS, "batch": BATCH, "augmentation": "crop of 32 x 32 from 40 x 40, flip",
        }  # fmt: skip
        self.notes: dict[str, Any] = {}

    def network(self) -> nn.Module:
        """The pretrained network with a new classifier, whose weights the seed draws."""
        network = networks.network(NETWORK, CLASSES)
        network.load_state_dict({**network.state_dict(), **self._weights})
        return network

    def batches(self, generator: torch.Generator) -> Iterable[tuple[Tensor, Tensor]]:
        """Augmented images in random order, again and again, and their classes."""
        left = STEPS
        while left:
            for batch in self._train.shuffled(BATCH, generator):
                yield batch
                left -= 1
                if not left:
                    return

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The cross entropy."""
        return nn.functional.cross_entropy(outputs, targets)

    def measured(self, network: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """The accuracy on all test images in %."""
        right = sum(
            int((network(images).argmax(1) == labels).sum())
            for images, labels in self._test.in_order(TEST_BATCH)
        )
        return {"accuracy": round(100 * right / len(self._test), 3)}


def pretrained(file: Path) -> dict[str, Tensor]:
    """The weights of a network that was trained on CIFAR-10, without its classifier.

    Raises:
        ValueError: if the file is no such checkpoint.
    """
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
        state = content.get("state_dict", content)
        # A network in `nn.DataParallel` has this before its names.
        state = {name.removeprefix("module."): value for name, value in state.items()}
        networks.network(NETWORK, CLASSES_BEFORE).load_state_dict(state)
    except (RuntimeError, AttributeError, TypeError, EOFError, UnpicklingError) as error:
        raise ValueError(
            f"{file} is no checkpoint of a ResNet-20 of He et al. for CIFAR-10 "
            f"({str(error).splitlines()[0] if str(error) else 'it ends too early'}): "
            "give --weights another file"
        ) from None
    return {name: value for name, value in state.items() if not name.startswith("linear.")}


def scaled(images: data.Images) -> data.Images:
    """The same images, normalised as those that the network was trained on before."""
    mean, deviation = (255 * torch.tensor(one).reshape(3, 1, 1) for one in (MEAN, DEVIATION))
    return data.Images(images.images, images.labels, mean, deviation)


def share(images: data.Images, percent: int) -> data.Images:
    """So many percent of the images of each class, the first ones of the file."""
    classes = range(int(images.labels.max()) + 1)
    of_class = [(images.labels == one).nonzero()[:, 0] for one in classes]
    chosen = torch.cat([one[: len(one) * percent // 100] for one in of_class]).sort().values
    return data.Images(images.images[chosen], images.labels[chosen], images.mean, images.deviation)


if __name__ == "__main__":
    sys.exit(main())
