"""Semantic segmentation with GluonCV's own model, loss, data set and metric (Table 4).

    python -m examples.recipes.gluoncv_segmentation --data VOCdevkit --arm do-conv

`--data` has PASCAL VOC 2012 in its official folders, `VOC2012/JPEGImages` and so on. Rates and
sizes are those of GluonCV's script; `--backbone-weights` is a parameter file of the plain backbone.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from do_conv.files import replacing
from do_conv.gluon import fold, plan, verify  # before mxnet
from do_conv.zoo import import_gluoncv

# isort: split
import mxnet as mx
import numpy as np
from mxnet import autograd, gluon

from examples import doors
from examples.records import ARMS, RESULTS, Record

MOMENTUM, DECAY, POWER, AUXILIARY = 0.9, 1e-4, 0.9, 0.5
MEAN, DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
FOLDERS = ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation")


def main(arguments: list[str] | None = None) -> int:
    """Train, evaluate, fold, and write the plain network; what cannot be done is one sentence."""
    given = _arguments().parse_args(arguments)
    try:
        return _run(given)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--data", type=Path, required=True, help="the folder that has VOC2012")
    add("--arm", choices=ARMS, default="do-conv")
    doors.add_to(parser)
    add("--model", choices=("fcn", "psp", "deeplab"), default="deeplab")
    add("--backbone", default="resnet101", help="a backbone that GluonCV knows")
    add("--backbone-weights", type=Path, help="a parameter file of the plain backbone")
    add("--crop", type=int, default=480, help="the side of the images that are trained on")
    add("--epochs", type=int, default=50)
    add("--batch", type=int, default=16)
    add("--rate", type=float, default=1e-3)
    add("--workers", type=int, default=0)
    add("--seed", type=int, default=0)
    add("--dry-run", action="store_true", help="print the plan, and train nothing")
    add("--results", type=Path, default=RESULTS, help="where the lines go")
    add("--out", type=Path, default=Path("segmentation.params"), help="the folded network")
    return parser


def _run(given: argparse.Namespace) -> int:
    network = _network(given)
    print(plan(network, input_shape=(1, 3, given.crop, given.crop)))
    if given.dry_run:
        return 0
    train, test = (_images(given, split) for split in ("train", "val"))
    np.random.seed(given.seed)
    random.seed(given.seed)  # crops and flips of GluonCV's data sets
    # Gluon draws the weights when it learns their sizes: all arms have the same.
    network(mx.nd.zeros((1, 3, given.crop, given.crop)))
    door = doors.Door(given.arm, given.door)
    model = door.network(network)
    model.hybridize()
    steps = given.epochs * (-(-len(train) // given.batch))
    options = {"learning_rate": given.rate, "momentum": MOMENTUM, "wd": DECAY}
    trainer = door.trainer(model, "sgd", options)
    record = _record(given)
    step = 0
    for epoch in range(1, given.epochs + 1):
        for images, masks in _loader(given, train, shuffle=True):
            trainer.set_learning_rate(given.rate * (1 - step / steps) ** POWER)
            _step(model, trainer, images, masks)
            step += 1
        pixels, accuracy = _evaluate(model, _loader(given, test), test.num_class)
        record.add(epoch, accuracy=accuracy, pixel_accuracy=pixels)
        print(f"epoch {epoch} of {given.epochs}: mIoU {accuracy:.2f} %, pixels {pixels:.2f} %")
    _write(given, model, test)
    return 0


def _network(given: argparse.Namespace) -> Any:
    """The plain network, with random weights beside those of the backbone."""
    mx.random.seed(given.seed)
    zoo = import_gluoncv()
    from gluoncv.model_zoo.segbase import get_segmentation_model

    options = {"dataset": "pascal_voc", "backbone": given.backbone, "crop_size": given.crop}
    network = get_segmentation_model(given.model, pretrained_base=False, aux=True, **options)
    network.initialize(mx.init.Xavier())
    if given.backbone_weights is not None:
        present(given.backbone_weights, "a parameter file of the backbone")
        backbone = zoo.get_model(f"{given.backbone}_v1s", pretrained=False, dilated=True)
        backbone.load_parameters(str(given.backbone_weights))
        network.pretrained.load_dict(backbone._collect_params_with_prefix())
    return network


def _images(given: argparse.Namespace, split: str) -> Any:
    """GluonCV's data set of one split."""
    from gluoncv.data import VOCSegmentation

    for folder in FOLDERS:
        present(given.data / "VOC2012" / folder, "a folder of PASCAL VOC 2012")
    transform = gluon.data.vision.transforms.Compose(
        [
            gluon.data.vision.transforms.ToTensor(),
            gluon.data.vision.transforms.Normalize(MEAN, DEVIATION),
        ]
    )
    sizes = {"base_size": given.crop * 13 // 12, "crop_size": given.crop}
    return VOCSegmentation(str(given.data), split, transform=transform, **sizes)


def present(path: Path, what: str) -> None:
    """Refuse a path that is not there.

    Raises:
        FileNotFoundError: if it is not.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there: it has to be {what}")


def _loader(given: argparse.Namespace, images: Any, *, shuffle: bool = False) -> Iterator[Any]:
    loader: Iterator[Any] = gluon.data.DataLoader(
        images, given.batch, shuffle=shuffle, last_batch="keep", num_workers=given.workers
    )
    return loader


def _step(model: Any, trainer: Any, images: Any, masks: Any) -> None:
    from gluoncv.loss import MixSoftmaxCrossEntropyLoss

    loss_of = MixSoftmaxCrossEntropyLoss(aux=True, aux_weight=AUXILIARY)
    with autograd.record():
        loss = loss_of(*model(images), masks)
    loss.backward()
    trainer.step(len(images))


def _evaluate(model: Any, loader: Iterator[Any], classes: int) -> tuple[float, float]:
    """The accuracy of the pixels and the mIoU, both in %."""
    from gluoncv.utils.metrics.segmentation import SegmentationMetric

    metric = SegmentationMetric(classes)
    for images, masks in loader:
        metric.update(masks, model(images)[0])
    pixels, accuracy = metric.get()
    return 100 * float(pixels), 100 * float(accuracy)


def _record(given: argparse.Namespace) -> Record:
    kept = ("model", "backbone", "crop", "epochs", "batch", "rate")
    settings = {name: getattr(given, name) for name in kept}
    if given.arm != "plain":
        settings["door"] = given.door
    parts = ("gluoncv-voc", given.model, given.backbone, *doors.in_name(given.arm, given.door))
    name = "-".join(parts)
    record = Record(given.results, name, given.arm, given.seed, settings, ("mxnet", "gluoncv"), 1)
    record.keep([])
    return record


def _write(given: argparse.Namespace, model: Any, test: Any) -> None:
    """Write the plain network; layers are folded, which is proved."""
    plain = model
    if given.arm == "do-conv" and given.door == doors.LAYERS:
        plain = fold(model)
        images = mx.nd.stack(test[0][0])
        print(f"folded, with a largest difference of {verify(model, plain, images):.1e}")
    with replacing(given.out) as beside:
        plain.save_parameters(str(beside))
    print(f"wrote {given.out}, the parameters of the plain network")


if __name__ == "__main__":
    sys.exit(main())
