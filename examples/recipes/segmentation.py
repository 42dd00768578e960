"""Semantic segmentation with DeepLabV3: Table 4 of the paper.

    python -m examples.recipes.segmentation --data DIR --layout cityscapes \
        --network deeplabv3_resnet_50 --pretrained FILE --arm do-conv

`--data` has the official folders: `leftImg8bit` and `gtFine` of Cityscapes, or
`VOCdevkit/VOC2012`, for `voc-aug` with `SegmentationClassAug` and the list `trainaug.txt` in it; or
for `folders` `images/train`, `masks/train`, `images/val` and `masks/val`. `--pretrained` is a
ResNet-v1b of ImageNet, or such a network of an earlier run, of either arm.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision.models import segmentation as zoo

from examples.recipes import distributed, rates, training
from examples.recipes import segmentation_data as files
from examples.recipes.options import positive
from examples.recipes.rates import Factor
from examples.recipes.recipe import Data, Recipe, moved

AUXILIARY = 0.5  # the share of the loss in the middle of the network
HEAD_RATE = 10.0  # of what is new, for the rate of the backbone
# What GluonCV trains with: for each layout, and the images that there are.
DEFAULTS: dict[str, dict[str, Any]] = {
    "cityscapes": {"epochs": 240, "batch": 8, "rate": 0.01, "crop": 768, "shorter": 1024,
                   "classes": 19, "images": 2_975},
    "voc-aug": {"epochs": 50, "batch": 16, "rate": 0.001, "crop": 480, "shorter": 520,
                "classes": 21, "images": 10_582},
    "voc": {"epochs": 50, "batch": 16, "rate": 0.0001, "crop": 480, "shorter": 520,
            "classes": 21, "images": 1_464},
    "folders": {"epochs": 50, "batch": 16, "rate": 0.01, "crop": 480, "shorter": 520,
                "classes": 21, "images": 10_000},
}  # fmt: skip


def _deeplab(make: Any) -> Callable[[int], nn.Module]:
    return lambda classes: make(
        weights=None, weights_backbone=None, num_classes=classes, aux_loss=True
    )


NETWORKS = {
    "deeplabv3_resnet_50": _deeplab(zoo.deeplabv3_resnet50),
    "deeplabv3_resnet_101": _deeplab(zoo.deeplabv3_resnet101),
}


class Segmentation(Recipe):
    """The mean over the classes of intersection over union."""

    summary = "Semantic segmentation with DeepLabV3: Table 4 of the paper."
    networks = NETWORKS
    metric = "mIoU"

    def options(self, parser: argparse.ArgumentParser) -> None:
        """The folders, and sizes."""
        add = parser.add_argument
        add("--layout", choices=files.LAYOUTS, default="cityscapes", help="of the folders")
        add("--classes", type=positive, help="default: of the layout; 21 for folders")
        add("--crop", type=positive, help="the side of the squares that are trained on")
        add("--shorter", type=positive, help="an image's shorter side, before it is half to twice")

    def defaults(self, given: argparse.Namespace) -> dict[str, Any]:
        """Those of the layout; the rate grows with the batch."""
        usual = DEFAULTS[given.layout]
        batch = given.batch or usual["batch"]
        return {**usual, "decay": 1e-4, "rate": usual["rate"] * batch / usual["batch"]}

    def experiment(self, given: argparse.Namespace) -> str:
        """Such as `voc-aug-deeplabv3_resnet_101`."""
        return f"{given.layout}-{given.network}"

    def network(self, given: argparse.Namespace) -> nn.Module:
        """DeepLabV3, with a second, smaller head in the middle for training."""
        return NETWORKS[given.network](given.classes)

    def input_shape(self, given: argparse.Namespace) -> tuple[int, ...]:
        """A square that is trained on."""
        return (1, 3, given.crop, given.crop)

    def data(self, given: argparse.Namespace) -> Data:
        """Squares to train on; whole images to test with, one at a time."""
        numbers = files.CITYSCAPES if given.layout == "cityscapes" else None
        steps = files.transforms(given.crop, given.shorter)
        train, test = (
            files.Masked(files.pairs(given.layout, given.data, split), given.classes, numbers, step)
            for split, step in zip(("train", "val"), steps, strict=True)
        )
        return Data(train, test)

    def rate_of(self, given: argparse.Namespace, name: str) -> float:
        """The heads are new, and learn faster, unless they are from the stage before."""
        return 1.0 if name.startswith("backbone.") else HEAD_RATE

    def factor(self, given: argparse.Namespace, steps: int) -> Factor:
        """The poly rate."""
        return rates.poly(given.epochs * steps)

    def loss(self, model: nn.Module, batch: Any, given: argparse.Namespace) -> Tensor:
        """Cross-entropy of each pixel, of both heads."""
        images, masks = batch
        found = model(images)
        shares = {"out": 1.0, "aux": AUXILIARY}
        pixels = (masks != files.IGNORED).sum().clamp(min=1)  # a square may have none
        options = {"ignore_index": files.IGNORED, "reduction": "sum"}
        return sum(
            share * functional.cross_entropy(found[name].float(), masks, **options) / pixels
            for name, share in shares.items()
        )

    def evaluate(
        self, model: nn.Module, batches: DataLoader, given: argparse.Namespace, device: torch.device
    ) -> dict[str, float]:
        """The mIoU and the share of the pixels that are right, in %."""
        counts = torch.zeros(given.classes, given.classes, dtype=torch.int64, device=device)
        for batch in batches:
            images, masks = moved(batch, device)
            counts += confusion(masks, model(images)["out"].argmax(1), given.classes)
        return scores(distributed.summed(counts))


def confusion(masks: Tensor, found: Tensor, classes: int) -> Tensor:
    """How many pixels of each class (rows) are found to be of each (columns)."""
    counted = masks != files.IGNORED
    places = masks[counted] * classes + found[counted]
    return torch.bincount(places, minlength=classes**2).reshape(classes, classes)


def scores(counts: Tensor) -> dict[str, float]:
    """The mIoU, over the classes that are there or are found, and the accuracy of the pixels."""
    right = counts.diagonal().double()
    union = (counts.sum(0) + counts.sum(1)).double() - right
    iou = (right / union)[union > 0].mean().item()
    return {"accuracy": 100 * iou, "pixel_accuracy": 100 * (right.sum() / counts.sum()).item()}


if __name__ == "__main__":
    sys.exit(training.main(Segmentation(), sys.argv[1:]))
