"""The rows of the paper's Tables 1 to 8, and the authors' demonstrations: what a run is held to.

Figures are accuracies in %, and gains in percentage points. Those of Tables 2 and 3 are in the
authors' readme, too. Where a figure was not at hand it is None.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        label: what it is about.
        plain: the plain network's figure.
        gain: what DO-Conv adds.
        experiment: the name of our runs.
        command: what runs them, after `python -m`.
    """

    label: str
    plain: float | None
    gain: float | None
    experiment: str
    command: str


@dataclass(frozen=True)
class Table:
    """A table of the paper."""

    name: str
    caption: str
    rows: tuple[Row, ...]


def _cifar() -> tuple[Row, ...]:
    networks = ["plain_20"]
    networks += [f"resnet_{kind}_{depth}" for kind in ("v1", "v2") for depth in (20, 56, 110, 164)]
    return tuple(
        Row(f"CIFAR-{classes}, {_shown(name)}", None, None, f"cifar{classes}-{name}",
            f"examples.cifar.train --data DIR --dataset cifar{classes} --network {name}")
        for classes in (10, 100) for name in networks
    )  # fmt: skip


def _shown(name: str) -> str:
    return name.replace("plain", "Plain").replace("resnet", "ResNet").replace("_", "-")


def _imagenet(rows: dict[str, tuple[float, float]]) -> tuple[Row, ...]:
    return tuple(
        Row(label, plain, gain, f"imagenet-{label}", f"examples.recipes.classification --data DIR "
            f"--network {label.lower().replace('-', '_')}")
        for label, (plain, gain) in rows.items()
    )  # fmt: skip


def _transfer(task: str, command: str, experiment: str) -> tuple[Row, ...]:
    """Fine-tuning, plain and with DO-Conv, of what was trained either way before."""
    return tuple(
        Row(f"{task}, {shown} pre-training", None, None, f"{experiment}-from-{before}",
            f"examples.recipes.{command} --data DIR --pretrained FILE")
        for before, shown in (("plain", "plain"), ("do-conv", "DO-Conv"))
    )  # fmt: skip


_RESNET_V2_20 = "examples.cifar.train --data DIR --network resnet_v2_20"
_STAGES = {"0": 0.17, "1": 0.02, "2": 0.25, "3": 0.29, "01": 0.10, "012": 0.32, "0123": 0.55}
_D_MUL = {"MN": ("", 0.55), "(M+2)(N+2)": ("-dmul-wider", 0.36), "4MN": ("-dmul-4", 0.47)}

TABLES = (
    Table("Table 1", "CIFAR-10 and CIFAR-100", _cifar()),
    Table("Tables 2 and 3", "ImageNet, networks of GluonCV", _imagenet({
        "Plain-18": (69.97, 1.01), "ResNet-v1-18": (70.87, 0.82), "ResNet-v1-34": (74.49, 0.49),
        "ResNet-v1-50": (77.32, 0.08), "ResNet-v1-101": (78.16, 0.46),
        "ResNet-v1-152": (79.34, 0.07), "ResNet-v1b-18": (71.08, 0.71),
        "ResNet-v1b-34": (74.35, 0.77), "ResNet-v1b-50": (77.56, 0.44),
        "ResNet-v1b-101": (79.14, 0.25), "ResNet-v1b-152": (79.60, 0.10),
        "ResNet-v2-18": (70.80, 0.64), "ResNet-v2-34": (74.76, 0.22), "ResNet-v2-50": (77.17, 0.31),
        "ResNet-v2-101": (78.56, 0.11), "ResNet-v2-152": (79.24, 0.14),
        "ResNeXt-50-32x4d": (79.21, 0.40), "MobileNet-v1": (73.30, 0.03),
        "MobileNet-v2": (71.89, 0.16), "MobileNet-v3": (75.16, 0.14),
    })),
    Table("Table 4", "semantic segmentation, DeepLabV3: mIoU", (
        *_transfer("Cityscapes, ResNet-50", "segmentation --layout cityscapes "
                   "--network deeplabv3_resnet_50", "cityscapes-deeplabv3_resnet_50"),
        *_transfer("PASCAL VOC, ResNet-101", "segmentation --layout voc-aug "
                   "--network deeplabv3_resnet_101", "voc-aug-deeplabv3_resnet_101"),
    )),
    Table("Table 5", "detection, Faster R-CNN with ResNet-50: AP", _transfer(
        "COCO", "detection --network faster_rcnn_resnet_50", "coco-faster_rcnn_resnet_50")),
    Table("Table 6", "ResNet-v2-20 on CIFAR-100, DO-Conv in some stages alone", tuple(
        Row("stages " + ", ".join(stages), None, gain,
            "cifar100-resnet_v2_20" + ("" if stages == "0123" else f"-stages{stages}"),
            f"{_RESNET_V2_20} --stages {' '.join(stages)}")
        for stages, gain in _STAGES.items()
    )),
    Table("Table 7", "ResNet-v2-20 on CIFAR-100, the start of D", (
        Row("identity", None, None, "cifar100-resnet_v2_20", _RESNET_V2_20),
        Row("He", None, None, "cifar100-resnet_v2_20-he", f"{_RESNET_V2_20} --depthwise-init he"),
    )),
    Table("Table 8", "ResNet-v2-20 on CIFAR-100, D_mul", tuple(
        Row(name, None, gain, f"cifar100-resnet_v2_20{variant}",
            f'{_RESNET_V2_20} --d-mul "{name}"')
        for name, (variant, gain) in _D_MUL.items()
    )),
)  # fmt: skip

MNIST = Table("MNIST", "the authors' demonstrations, mean of five runs", tuple(
    Row(shown, plain, round(gain, 3), f"mnist-{name}", f"examples.mnist.{name}_mnist --data DIR")
    for name, shown, plain, gain in (
        ("torch", "PyTorch", 95.156, 0.518), ("keras", "TensorFlow (Keras here)", 98.504, 0.178),
        ("gluon", "MXNet Gluon", 98.10, 0.16),
    )
))  # fmt: skip
