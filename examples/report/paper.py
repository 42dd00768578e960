"""The rows of the paper's Tables 1 to 8, and the authors' demonstrations: what a run is held to.

Figures are accuracies in %, and gains in percentage points, as the paper prints them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        label: what it is about.
        plain: the plain network's figure; None in a row that the paper has not.
        gain: what DO-Conv adds; None in a row that the paper has not, or of a plain network.
        experiment: the name of our runs.
        command: what runs them, after `python -m`.
        more: the figures in the table's further columns.
        baseline: the experiment whose plain runs it is compared with, where it is another one.
    """

    label: str
    plain: float | None
    gain: float | None
    experiment: str
    command: str
    more: tuple[str, ...] = ()
    baseline: str = ""

    @property
    def is_plain(self) -> bool:
        """Whether it is of a plain network alone."""
        return self.plain is not None and self.gain is None


@dataclass(frozen=True)
class Table:
    """A table of the paper.

    Attributes:
        more: the heads of further columns of the paper's.
        last: how many epochs at the end an accuracy is the mean of.
        digits: decimal places of the paper's figures.
        note: what a reader has to know of it.
    """

    name: str
    caption: str
    rows: tuple[Row, ...]
    more: tuple[str, ...] = ()
    last: int = 1
    digits: int = 2
    note: str = ""


CIFAR_LAST = 5
_NETWORKS = ("plain_20", *(f"resnet_{kind}_{depth}" for kind in ("v1", "v2")
                           for depth in (20, 56, 110, 164)))  # fmt: skip
# The plain network and the gain, in the order of _NETWORKS.
_CIFAR = {
    10: ((90.88, 0.37), (92.03, 0.25), (93.47, 0.05), (94.00, -0.05), (94.65, -0.06),
         (91.83, 0.39), (93.26, 0.12), (93.72, 0.21), (94.69, -0.07)),
    100: ((66.01, 0.27), (67.37, 0.31), (70.65, 0.25), (72.58, 0.01), (75.43, 0.03),
          (67.14, 0.54), (70.15, 0.63), (72.00, 0.22), (75.32, 0.07)),
}  # fmt: skip
# What GluonCV reports, the plain network and the gain.
_IMAGENET = {
    "Plain-18": (None, 69.97, 1.01),
    "ResNet-v1-18": (70.93, 70.87, 0.82), "ResNet-v1-34": (74.37, 74.49, 0.49),
    "ResNet-v1-50": (77.36, 77.32, 0.08), "ResNet-v1-101": (78.34, 78.16, 0.46),
    "ResNet-v1-152": (79.22, 79.34, 0.07), "ResNet-v1b-18": (70.94, 71.08, 0.71),
    "ResNet-v1b-34": (74.65, 74.35, 0.77), "ResNet-v1b-50": (77.67, 77.56, 0.44),
    "ResNet-v1b-101": (79.20, 79.14, 0.25), "ResNet-v1b-152": (79.69, 79.60, 0.10),
    "ResNet-v2-18": (71.00, 70.80, 0.64), "ResNet-v2-34": (74.40, 74.76, 0.22),
    "ResNet-v2-50": (77.17, 77.17, 0.31), "ResNet-v2-101": (78.53, 78.56, 0.11),
    "ResNet-v2-152": (79.21, 79.24, 0.14), "MobileNet-v1": (73.28, 73.30, 0.03),
    "MobileNet-v2": (72.04, 71.89, 0.16), "MobileNet-v3": (75.32, 75.16, 0.14),
    "ResNeXt-50-32x4d": (79.32, 79.21, 0.40),
}  # fmt: skip
# Of ResNet-v2-20 on CIFAR-100, and of ResNet-v1b-50 on ImageNet, by the stages with DO-Conv.
_STAGES = {
    "0": (0.17, 0.17), "1": (0.02, -0.07), "2": (0.25, -0.03), "3": (0.29, 0.02),
    "4": (None, 0.06), "01": (0.10, -0.11), "012": (0.32, 0.16), "0123": (0.55, 0.14),
    "01234": (None, 0.44),
}  # fmt: skip
_D_MUL = {
    "M x N": ("MN", "", 0.55),
    "(M + 2) x (N + 2)": ("(M+2)(N+2)", "-dmul-wider", 0.36),
    "(M x 2) x (N x 2)": ("4MN", "-dmul-4", 0.47),
}
_ON_CIFAR = "examples.cifar.train --data DIR --network resnet_v2_20"
_ON_IMAGENET = "examples.recipes.classification --data DIR --network"
_V2_20, _V1B_50 = "cifar100-resnet_v2_20", "imagenet-ResNet-v1b-50"


def _cifar() -> tuple[Row, ...]:
    return tuple(
        Row(f"CIFAR-{classes}, {_shown(name)}", plain, gain, f"cifar{classes}-{name}",
            f"examples.cifar.train --data DIR --dataset cifar{classes} --network {name}")
        for classes, figures in _CIFAR.items()
        for name, (plain, gain) in zip(_NETWORKS, figures, strict=True)
    )  # fmt: skip


def _shown(name: str) -> str:
    return name.replace("plain", "Plain").replace("resnet", "ResNet").replace("_", "-")


def _imagenet() -> tuple[Row, ...]:
    return tuple(
        Row(label, plain, gain, f"imagenet-{label}",
            f"{_ON_IMAGENET} {label.lower().replace('-', '_')}",
            ("-" if reference is None else f"{reference:.2f}",))
        for label, (reference, plain, gain) in _IMAGENET.items()
    )  # fmt: skip


def _stages(column: int, plain: float, everything: str, experiment: str, command: str) -> Table:
    network = ("ResNet-v2-20 on CIFAR-100", "ResNet-v1b-50 on ImageNet")[column]
    rows = []
    for stages, gains in _STAGES.items():
        gain, is_all = gains[column], stages == everything
        if gain is not None:
            variant = "" if is_all else f"-stages{stages}"
            options = "" if is_all else f" --stages {' '.join(stages)}"
            label = f"stages {', '.join(stages)}"
            rows.append(Row(label, plain, gain, f"{experiment}{variant}", f"{command}{options}"))
    last = CIFAR_LAST if column == 0 else 1
    caption = f"{network}, DO-Conv in some stages alone"
    note = "Stage 0 is what stands before the numbered ones: the first convolution."
    return Table("Table 6", caption, tuple(rows), last=last, note=note)


def _transfer(
    what: str, task: str, command: str, experiment: str, plain: float,
    gains: tuple[float, float], more: tuple[tuple[str, ...], ...] = ((), (), ()),
) -> tuple[Row, ...]:  # fmt: skip
    """Three rows: DO-Conv nowhere, in fine-tuning alone, and in pre-training as well."""
    before, after = f"{experiment}-from-plain", f"{experiment}-from-do-conv"
    command = f"examples.recipes.{command} --data DIR"
    of_plain = f"{command} --pretrained PLAIN --arm"
    of_ours = f"{command} --pretrained FOLDED --pretrained-arm do-conv --arm do-conv"
    start, ours = f"{what}, backbone", f"{task} DO-Conv"
    return (
        Row(f"{start} plain, {task} plain", plain, None, before, f"{of_plain} plain", more[0]),
        Row(f"{start} plain, {ours}", plain, gains[0], before, f"{of_plain} do-conv", more[1]),
        Row(f"{start} DO-Conv, {ours}", plain, gains[1], after, of_ours, more[2], before),
    )


_STAGES_OF_TRAINING = (
    "The gains of a data set are over its first row. PLAIN and FOLDED are what pre-training on "
    "ImageNet wrote, plain and with DO-Conv (see `examples/recipes`)."
)
TABLES = (
    Table("Table 1", "CIFAR-10 and CIFAR-100", _cifar(), last=CIFAR_LAST, note=(
        "The gain of ResNet-v2-20 on CIFAR-100 is +0.54 here, and +0.55 in the paper's Tables 6 "
        "and 8."
    )),
    Table("Tables 2 and 3", "ImageNet, networks of GluonCV", _imagenet(), ("GluonCV's own",)),
    Table("Table 4", "semantic segmentation, DeepLabV3: mIoU", (
        *_transfer("PASCAL VOC", "segmentation", "segmentation --layout voc-aug "
                   "--network deeplabv3_resnet_101", "voc-aug-deeplabv3_resnet_101", 88.59,
                   (0.25, 0.05)),
        *_transfer("Cityscapes", "segmentation", "segmentation --layout cityscapes "
                   "--network deeplabv3_resnet_50", "cityscapes-deeplabv3_resnet_50", 78.71,
                   (1.45, 0.82)),
    ), note=f"{_STAGES_OF_TRAINING} The paper's ResNet-100 of PASCAL VOC is ResNet-101 here."),
    Table("Table 5", "detection, Faster R-CNN with ResNet-50: AP", _transfer(
        "COCO", "detection", "detection --network faster_rcnn_resnet_50",
        "coco-faster_rcnn_resnet_50", 37.9, (0.0, 0.3), (
            ("59.5", "41.2", "21.4", "41.4", "49.6"), ("+0.4", "-0.2", "+0.7", "+0.6", "-1.0"),
            ("+0.4", "+0.3", "+1.0", "+0.3", "+0.0"),
        ),
    ), ("AP50", "AP75", "AP small", "AP medium", "AP large"), digits=1, note=_STAGES_OF_TRAINING),
    _stages(0, 67.14, "0123", _V2_20, _ON_CIFAR),
    _stages(1, 77.56, "01234", _V1B_50, f"{_ON_IMAGENET} resnet_v1b_50"),
    Table("Table 7", "ResNet-v1b-50 on ImageNet, the start of D", (
        Row("random (He)", 77.56, 0.18, f"{_V1B_50}-he",
            f"{_ON_IMAGENET} resnet_v1b_50 --depthwise-init he"),
        Row("identity", 77.56, 0.44, _V1B_50, f"{_ON_IMAGENET} resnet_v1b_50"),
    )),
    Table("Table 7", "ResNet-v2-20 on CIFAR-100, the start of D", (
        Row("random (He)", None, None, f"{_V2_20}-he", f"{_ON_CIFAR} --depthwise-init he"),
        Row("identity", 67.14, 0.55, _V2_20, _ON_CIFAR),
    ), last=CIFAR_LAST, note="The paper has the random start on ImageNet alone."),
    Table("Table 8", "ResNet-v2-20 on CIFAR-100, D_mul", tuple(
        Row(f"D_mul = {label}", 67.14, gain, f"{_V2_20}{variant}",
            f'{_ON_CIFAR} --d-mul "{option}"')
        for label, (option, variant, gain) in _D_MUL.items()
    ), last=CIFAR_LAST),
)  # fmt: skip

MNIST = Table("MNIST", "the authors' demonstrations, mean of five runs", tuple(
    Row(shown, plain, round(gain, 3), f"mnist-{name}", f"examples.mnist.{name}_mnist --data DIR")
    for name, shown, plain, gain in (
        ("torch", "PyTorch", 95.156, 0.518), ("keras", "TensorFlow (Keras here)", 98.504, 0.178),
        ("gluon", "MXNet Gluon", 98.10, 0.16),
    )
))  # fmt: skip


def by_depth() -> dict[str, tuple[float, float]]:
    """The smallest and largest gain on CIFAR-100, of 20 layers ("shallow") and of 164 ("deep")."""
    found = {}
    for name, depth in (("shallow", 20), ("deep", 164)):
        gains = [
            gain for network, (_, gain) in zip(_NETWORKS, _CIFAR[100], strict=True)
            if network.endswith(f"_{depth}")
        ]  # fmt: skip
        found[name] = (min(gains), max(gains))
    return found
