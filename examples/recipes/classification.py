"""ImageNet classification: Tables 2 and 3 of the paper, and 6 and 7 in part.

    python -m examples.recipes.classification --data DIR --network resnet_v1b_50 --arm do-conv
    torchrun --nproc-per-node 8 -m examples.recipes.classification --data DIR ...

`--data` has `train/CLASS/IMAGE` and `val/CLASS/IMAGE`. The defaults are those of GluonCV's scripts,
whose networks the paper trains.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from examples.recipes import distributed, rates, training
from examples.recipes.networks.imagenet import LABELS, NETWORKS
from examples.recipes.rates import Factor
from examples.recipes.recipe import DEVIATION, MEAN, Data, Recipe, moved, present

WARMUP = 5  # epochs
# What GluonCV trains its MobileNets with, and all others.
MOBILE = {"epochs": 150, "decay": 4e-5}
USUAL = {"epochs": 120, "decay": 1e-4}
IMAGES = 1_281_167
SHORTER = 256 / 224  # the shorter side of a test image, for one that the network sees


class Classification(Recipe):
    """Top-1 and top-5 accuracy."""

    summary = "ImageNet classification: Tables 2, 3, 6 and 7 of the paper."
    networks = NETWORKS
    metric = "top-1 accuracy"
    test_batch = 64

    def options(self, parser: argparse.ArgumentParser) -> None:
        """Sizes, and what makes training images harder."""
        add = parser.add_argument
        add("--classes", type=int, default=1000)
        add("--size", type=int, default=224, help="the side of what the network sees")
        add("--label-smoothing", type=float, default=0.0)
        add("--jitter", type=float, default=0.0, help="of the colours; GluonCV: 0.4")
        add("--mixup", type=float, default=0.0, help="alpha of mixup; GluonCV: 0.2")

    def defaults(self, given: argparse.Namespace) -> dict[str, Any]:
        """A rate of 0.1 for 256 images; it grows with the batch."""
        batch = given.batch or 256
        usual = MOBILE if given.network.startswith("mobilenet") else USUAL
        return {**usual, "batch": batch, "rate": 0.1 * batch / 256, "images": IMAGES}

    def experiment(self, given: argparse.Namespace) -> str:
        """As the report's page knows it."""
        return f"imagenet-{LABELS.get(given.network, given.network)}"

    def network(self, given: argparse.Namespace) -> nn.Module:
        """One of `networks/imagenet.py`."""
        return NETWORKS[given.network](given.classes)

    def input_shape(self, given: argparse.Namespace) -> tuple[int, ...]:
        """An image of the size that the network sees."""
        return (1, 3, given.size, given.size)

    def data(self, given: argparse.Namespace) -> Data:
        """The folders of `train` and `val`, of the same classes."""
        found = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, DEVIATION)]
        jitter = [v2.ColorJitter(*[given.jitter] * 3)] if given.jitter else []
        harder = [v2.RandomResizedCrop(given.size), v2.RandomHorizontalFlip(), *jitter]
        middle = [v2.Resize(round(given.size * SHORTER)), v2.CenterCrop(given.size)]
        train, test = (
            _folder(given, split, v2.Compose([*steps, *found]))
            for split, steps in (("train", harder), ("val", middle))
        )
        if train.classes != test.classes:
            raise ValueError(f"{given.data}: train and val are not of the same classes")
        if len(train.classes) > given.classes:
            raise ValueError(
                f"{given.data} has {len(train.classes)} classes, more than --classes "
                f"{given.classes}"
            )
        return Data(train, test)

    def factor(self, given: argparse.Namespace, steps: int) -> Factor:
        """A cosine, after a few epochs in which the rate rises."""
        warmup = min(WARMUP, given.epochs - 1)
        return rates.cosine(given.epochs * steps, warmup * steps)

    def loss(self, model: nn.Module, batch: Any, given: argparse.Namespace) -> Tensor:
        """Cross-entropy, perhaps smoothed, perhaps of images that are laid over each other."""
        images, labels = batch
        smooth = {"label_smoothing": given.label_smoothing}
        if not given.mixup:
            return functional.cross_entropy(model(images), labels, **smooth)
        share = torch.distributions.Beta(given.mixup, given.mixup).sample().item()
        other = torch.randperm(len(images)).to(labels.device)
        scores = model(share * images + (1 - share) * images[other])
        first = functional.cross_entropy(scores, labels, **smooth)
        return share * first + (1 - share) * functional.cross_entropy(
            scores, labels[other], **smooth
        )

    def evaluate(
        self, model: nn.Module, batches: DataLoader, given: argparse.Namespace, device: torch.device
    ) -> dict[str, float]:
        """How often the class is the first, and among the first five, in %."""
        counts = torch.zeros(3, dtype=torch.int64, device=device)
        for batch in batches:
            images, labels = moved(batch, device)
            best = model(images).topk(min(5, given.classes)).indices == labels[:, None]
            counts[0] += best[:, 0].sum()
            counts[1] += best.sum()
            counts[2] += len(best)
        first, five, images = distributed.summed(counts).tolist()
        return {"accuracy": 100 * first / images, "top5": 100 * five / images}


def _folder(given: argparse.Namespace, split: str, transform: Any) -> ImageFolder:
    place = present(given.data / split, f"the folder {split} with a folder of images for a class")
    try:
        return ImageFolder(place, transform)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{place} has no images: it has to have a folder of them for each class"
        ) from error


if __name__ == "__main__":
    sys.exit(training.main(Classification(), sys.argv[1:]))
