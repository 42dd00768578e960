"""The section of the project's own tasks, in Markdown; it shows those that were run."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from examples import doors, variants
from examples.report.of_d import D_MULS, STARTS
from examples.report.runs import ACCURACY, LAST, Experiment, compare
from examples.report.tables import OURS, arms, commands
from pictures import markdown

ON_TASKS = """## Other tasks

These are no experiments of the paper. Each figure is that after the last step, on data held out; a
gain is in the unit of its row. Both arms of a row start from the same weights and see the same
batches. The column *door* says whether W and D' are in layers or in the optimizer. Both are the
same training to rounding, which many steps amplify: two such rows differ by chance.

Segmentation, as in Table 4, is not among them: of the packages that were looked at, scikit-image,
scikit-learn, SciPy, MONAI and torchvision have no photographs with masks among their files, and
stardist has a single picture in two dimensions.
"""
ON_DENOISING = """### Image restoration: noise

A DnCNN of 9 layers with 32 channels takes noise of deviation 25 (of 255) out of grey photographs.
The figures are means over five photographs. Non-local means are told the deviation.
"""
ON_DEBLURRING = """### Image restoration: blur

A U-Net of three levels sharpens grey photographs after motions of 5 to 13 pixels and Gaussians of
deviation 1 to 2.5 pixels, with noise of deviation 2 (of 255). It is not told the kernel; Wiener's
filter is. The figures are means over five photographs, each with a kernel of either kind.
"""
ON_SERIES = """### Time series

The networks of Wang et al. (2017), whose convolutions are one-dimensional: test accuracy in %. The
last column is that of the plain networks in Ismail Fawaz et al. (2019): the mean of ten runs, of
2000 passes over the training series for FCN and 1500 for ResNet. The runs here are shorter.
"""
ON_TRANSFER = """### Fine-tuning

A ResNet-20 that was trained on CIFAR-10 is fine-tuned to CIFAR-100 with a share of its training
images: test accuracy in %, after a number of steps of 32 images. The seed draws the new classifier
and the batches. The images of a share are the same in all runs, so an interval does not hold for
another choice of them.
"""
ON_GROUPED = """### Depthwise and grouped convolutions

A network for images of 32 × 32 with the blocks of MobileNet-v2, three in each of three stages. Its
first convolution halves the image. On CIFAR-100: test accuracy in %, the mean over the last five
epochs. The paper has its like on ImageNet, in Tables 2 and 3.
"""
# The experiment of each task of image restoration, the name of its rows, and what is said of it.
RESTORED = {
    "denoise": ("photographs-dncnn", "noise", ON_DENOISING),
    "deblur": ("photographs-unet", "blur", ON_DEBLURRING),
}
FINE_TUNED = "transfer-resnet_v1_20-{}"
# How a measure is shown, and with how many decimal places.
MEASURES = {"accuracy": ("test accuracy (%)", 2), "psnr": ("PSNR (dB)", 2), "ssim": ("SSIM", 4)}
# The plain accuracies of Ismail Fawaz et al. (2019), https://arxiv.org/abs/1809.04356.
PUBLISHED = {
    "Coffee": {"fcn": 100.0, "resnet": 100.0},
    "GunPoint": {"fcn": 100.0, "resnet": 99.1},
    "ItalyPowerDemand": {"fcn": 96.1, "resnet": 96.3},
    "JapaneseVowels": {"fcn": 99.3, "resnet": 99.2},
    "OSULeaf": {"fcn": 97.7, "resnet": 97.9},
}
SHARES = (1, 10, 100)  # of the images in %
NETWORKS = {"fcn": "FCN", "resnet": "ResNet"}
GROUPED = {"mobilenet_v2": "MobileNet-v2-like", "resnext_29": "ResNeXt-29-like, 8 groups"}
GROUPED_COMMAND = "examples.cifar.train --data DIR --network {} --seeds 0 1 2 3 4"
RESTORATION = "examples.restoration.train --task {}"
TRANSFER = "examples.transfer.train --data DIR --weights FILE --percent {}"
SERIES = "examples.time_series.train --sets {} --networks {}"
# Variants of D in words, by what they add to a run's name, and the default.
_OF_D = {"": "", **STARTS, **D_MULS}


@dataclass(frozen=True)
class Line:
    """A line of a table, and the command of its runs."""

    cells: tuple[str, ...]
    command: str


def section(found: Mapping[str, Experiment]) -> Iterator[str]:
    """The parts of the section; nothing while no task was run."""
    restored = {task: list(_restoration(task, found)) for task in RESTORED}
    series, transfer, grouped = list(_series(found)), list(_transfer(found)), list(_grouped(found))
    if not any((*restored.values(), series, transfer, grouped)):
        return
    yield ON_TASKS
    for task, lines in restored.items():
        if lines:
            name, _, about = RESTORED[task]
            yield about
            yield _table(("", *OURS, "door", "epochs"), lines)
            yield from _references(name, found)
            yield commands(line.command for line in lines)
    if series:
        yield ON_SERIES
        yield _table(("", *OURS, "door", "epochs", "published"), series)
        yield commands(line.command for line in series)
    if transfer:
        yield ON_TRANSFER
        yield _table(("", *OURS, "door", "epochs", "steps"), transfer)
        yield commands(line.command for line in transfer)
    if grouped:
        yield ON_GROUPED
        yield _table(("", *OURS, "door", "epochs"), grouped)
        yield commands(line.command for line in grouped)


def shown(one: Experiment) -> str:
    """The measure of an experiment's curves."""
    return MEASURES[one.measures[0]][0]


def _table(head: tuple[str, ...], lines: list[Line]) -> str:
    return markdown.table(head, (line.cells for line in lines))


def _restoration(task: str, found: Mapping[str, Experiment]) -> Iterator[Line]:
    name, what, _ = RESTORED[task]
    for variant, one, command in _runs(name, RESTORATION.format(task), found):
        for measure in one.measures:
            label, digits = MEASURES[measure]
            if cells := _cells(one, measure, digits):
                yield Line((f"{what}, {label}{variant}", *cells), command)


def _series(found: Mapping[str, Experiment]) -> Iterator[Line]:
    for name, published in PUBLISHED.items():
        for network, accuracy in published.items():
            command = SERIES.format(name, network)
            for variant, one, own_command in _runs(f"{name}-{network}", command, found):
                if cells := _cells(one, *ACCURACY):
                    label = f"{name}, {NETWORKS[network]}{variant}"
                    yield Line((label, *cells, f"{accuracy:.1f}"), own_command)


def _transfer(found: Mapping[str, Experiment]) -> Iterator[Line]:
    for percent in SHARES:
        name, command = FINE_TUNED.format(percent), TRANSFER.format(percent)
        for variant, one, own_command in _runs(name, command, found):
            if cells := _cells(one, *ACCURACY):
                steps = one.settings["steps"] * one.settings["epochs"]
                yield Line((f"{percent} % of the images{variant}", *cells, str(steps)), own_command)


def _grouped(found: Mapping[str, Experiment]) -> Iterator[Line]:
    for network, label in GROUPED.items():
        name = f"cifar100-{network}"
        for door in doors.DOORS:
            one = found.get("-".join([name, *doors.in_name("do-conv", door)]))
            if one and (cells := _cells(one, *ACCURACY, last=LAST)):
                of_door = "" if door == doors.LAYERS else f" --door {door}"
                yield Line((label, *cells), GROUPED_COMMAND.format(network) + of_door)


def _runs(
    name: str, command: str, found: Mapping[str, Experiment]
) -> Iterator[tuple[str, Experiment, str]]:
    """The runs of an experiment through each door, then of variants of D; what runs them.

    What tells a variant is the first of the three, to be added to a label.
    """
    for variant, door in itertools.product(_OF_D, doors.DOORS):
        parts = [variant] if variant else []
        if one := found.get("-".join([name, *parts, *doors.in_name("do-conv", door)])):
            options = ["--epochs", str(one.settings["epochs"])]
            options += ["--arms", "do-conv", *variants.KNOWN[variant]] if variant else []
            options += [] if door == doors.LAYERS else ["--door", door]
            label = f", {_OF_D[variant]}" if variant else ""
            yield label, one, f"{command} {shlex.join(options)}"


def _cells(one: Experiment, measure: str, digits: int = 2, last: int = 1) -> tuple[str, ...] | None:
    """The arms and their gain, the door and the epochs; None while there is no comparison."""
    result = compare(one.by(measure), last)
    if result is None:
        return None
    return (*arms(result, digits), str(one.door), str(one.settings["epochs"]))


def _references(name: str, found: Mapping[str, Experiment]) -> Iterator[str]:
    """The measures of the degraded photographs and of a method that needs no training."""
    references = found[name].references if name in found else {}
    if references:
        names = list(next(iter(references.values())))
        lines = [
            (what, *(f"{values[name]:.{MEASURES[name][1]}f}" for name in names))
            for what, values in references.items()
        ]
        yield markdown.table(("without a network", *(MEASURES[name][0] for name in names)), lines)
