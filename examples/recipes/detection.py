"""Detection on COCO with Faster R-CNN: Table 5 of the paper.

    python -m examples.recipes.detection --data DIR --pretrained FILE --arm do-conv

`--data` has COCO's folders `train2017`, `val2017` and `annotations`. `--pretrained` is a ResNet-v1b
of ImageNet, or such a network of an earlier run, of either arm. The metric is computed by
pycocotools.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d

from do_conv.core.errors import MissingFrameworkError, is_installed
from examples.recipes import distributed, rates, training
from examples.recipes.detection_data import Coco, listed, together
from examples.recipes.options import positive
from examples.recipes.rates import Factor
from examples.recipes.recipe import Data, Recipe, moved

WARMUP = 1000  # steps
FALLS = (17 / 26, 23 / 26)  # of the epochs, after which the rate is a tenth
IMAGES = 117_266  # those of train2017 that have a box


def faster_rcnn(depth: int, given: argparse.Namespace, **options: Any) -> nn.Module:
    """Faster R-CNN with a feature pyramid; norms and first layers of a trained backbone stay."""
    stays = given.pretrained is not None
    backbone = resnet_fpn_backbone(
        backbone_name=f"resnet{depth}",
        weights=None,
        norm_layer=FrozenBatchNorm2d if stays else nn.BatchNorm2d,
        trainable_layers=given.trained_stages if stays else 5,
    )
    # Class 0 is what has no thing in it.
    sizes = {"min_size": given.size, "max_size": given.longest}
    return FasterRCNN(backbone, given.classes + 1, **sizes, **options)


NETWORKS: dict[str, Callable[[argparse.Namespace], nn.Module]] = {
    f"faster_rcnn_resnet_{depth}": partial(faster_rcnn, depth) for depth in (50, 101, 18)
}


class Detection(Recipe):
    """COCO's average precision."""

    summary = "Detection on COCO with Faster R-CNN: Table 5 of the paper."
    networks = NETWORKS
    metric = "AP at IoU 0.50 to 0.95"

    def options(self, parser: argparse.ArgumentParser) -> None:
        """Sizes, and what of the backbone is trained."""
        add = parser.add_argument
        add("--classes", type=positive, default=80)
        add("--size", type=positive, default=800, help="an image's shorter side")
        add("--longest", type=positive, default=1333, help="a limit for its longer side")
        add("--trained-stages", type=int, choices=range(6), default=3,
            help="of a pre-trained backbone, from the last")  # fmt: skip

    def defaults(self, given: argparse.Namespace) -> dict[str, Any]:
        """A rate of 0.01 for 8 images; it grows with the batch."""
        batch = given.batch or 8
        rate = 0.01 * batch / 8
        return {"epochs": 26, "batch": batch, "rate": rate, "decay": 1e-4, "images": IMAGES}

    def experiment(self, given: argparse.Namespace) -> str:
        """Such as `coco-faster_rcnn_resnet_50`."""
        return f"coco-{given.network}"

    def ready(self, given: argparse.Namespace) -> None:
        """COCO's metric is not something to write anew.

        Raises:
            MissingFrameworkError: if pycocotools is not installed.
        """
        if not is_installed("pycocotools"):
            raise MissingFrameworkError(
                "COCO's average precision needs pycocotools, which is not installed; bring it "
                "with: pip install pycocotools."
            )

    def network(self, given: argparse.Namespace) -> nn.Module:
        """Torchvision's Faster R-CNN."""
        return NETWORKS[given.network](given)

    def input_shape(self, given: argparse.Namespace) -> tuple[int, ...]:
        """An image of COCO's usual shape, 3 to 4."""
        return (1, 3, given.size, min(given.size * 4 // 3, given.longest))

    def data(self, given: argparse.Namespace) -> Data:
        """`train2017` and `val2017`."""
        train, self._test = Coco(given.data, "train"), Coco(given.data, "val")
        if train.categories != self._test.categories or len(train.categories) != given.classes:
            raise ValueError(
                f"{given.data} has {len(train.categories)} categories to train on and "
                f"{len(self._test.categories)} to test with, not both times the {given.classes} "
                "of --classes"
            )
        return Data(train, self._test, together)

    def factor(self, given: argparse.Namespace, steps: int) -> Factor:
        """A rate that rises over the first steps and falls twice."""
        total = given.epochs * steps
        return rates.tenths(tuple(part * total for part in FALLS), min(WARMUP, total // 10))

    def loss(self, model: nn.Module, batch: Any, given: argparse.Namespace) -> Tensor:
        """Those of the proposals and of the boxes, together."""
        images, targets = batch
        losses = model(images, [{k: one[k] for k in ("boxes", "labels")} for one in targets])
        return sum(losses.values())

    def evaluate(
        self, model: nn.Module, batches: DataLoader, given: argparse.Namespace, device: torch.device
    ) -> dict[str, float]:
        """AP, and AP at an overlap of a half and of three quarters, in %."""
        found = []
        for images, targets in batches:
            found += listed(model(moved(images, device)), targets, self._test.categories)
        found = distributed.gathered(found)
        numbers = distributed.rank() == 0 and average_precision(self._test.annotations, found)
        return distributed.shared(numbers)


def average_precision(annotations: Any, found: list[dict[str, Any]]) -> dict[str, float]:
    """COCO's own evaluation of what was found, in %."""
    if not found:  # which its code cannot read
        return {"accuracy": 0.0, "ap50": 0.0, "ap75": 0.0}
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = COCO(str(annotations))
    evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    names = ("accuracy", "ap50", "ap75")
    return {name: 100 * float(evaluation.stats[i]) for i, name in enumerate(names)}


if __name__ == "__main__":
    sys.exit(training.main(Detection(), sys.argv[1:]))
