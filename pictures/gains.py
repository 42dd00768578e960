"""What training gains, from the kept runs, beside the paper's figures."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from do_conv.table import counted
from examples.records import RESULTS
from examples.report import of_d, paper, rates, runs, sensitivity, tasks
from pictures.markdown import KEEP, table

ON_MNIST = {"mnist-torch": "PyTorch", "mnist-keras": "Keras", "mnist-gluon": "MXNet Gluon"}
SCHEDULES = ("", "medium", "full")  # in an experiment's name, after the network
# Rows of the paper's tables, by a pattern of their labels, that are summed up in one line.
SUMMED = (
    ("CIFAR-10, 20 layers", "Table 1", r"CIFAR-10, .*-20"),
    ("CIFAR-10, 56 to 164 layers", "Table 1", r"CIFAR-10, .*-(56|110|164)"),
    ("CIFAR-100, 20 layers", "Table 1", r"CIFAR-100, .*-20"),
    ("CIFAR-100, 56 to 164 layers", "Table 1", r"CIFAR-100, .*-(56|110|164)"),
    ("ImageNet, 18 and 34 layers", "Tables 2 and 3", r"(Plain|ResNet).*-(18|34)"),
    ("ImageNet, 50 to 152 layers", "Tables 2 and 3", r"ResNet.*-(50|101|152)"),
    ("ImageNet, MobileNets", "Tables 2 and 3", r"MobileNet.*"),
    ("ImageNet, ResNeXt-50", "Tables 2 and 3", r"ResNeXt.*"),
    ("segmentation, mIoU", "Table 4", r".*segmentation DO-Conv"),
    ("detection, AP", "Table 5", r".*detection DO-Conv"),
)
# Tables of variants of D, which have tables of their own.
OF_VARIANTS = ("Table 6", "Table 7", "Table 8")
DEFAULT = "all stages, D = I, D_mul = 9"
STAGES = {"stages0": "stage 0", "stages01": "stages 0 and 1", "stages012": "stages 0, 1 and 2"}
ON_DIGITS = "On [digits](when-it-helps.md#which-d), with a network of 4 layers:"
ON_CIFAR = "On CIFAR-100, with [ResNet-v2-20](results.md#the-papers-tables) and 12 epochs:"
FIRST_EPOCH = "MNIST, PyTorch, epoch 1 of the same runs"
HEAD = ("", "plain → DO-Conv, %", "gain", "theirs", "seeds")


def gains(folder: Path = RESULTS) -> str:
    """A table with a line for each experiment that several seeds of both arms have run.

    A sentence below it counts those whose interval excludes zero.
    """
    found, study = runs.load(folder), _study(folder)
    lines = [*_lines(found), *_of_tasks(found), *_of_digits(study)]
    # Each run counts once.
    ends = [gain for label, _, gain, _, _ in lines if label != FIRST_EPOCH]
    won, lost = (sum(gain.startswith(sign) for gain in ends) for sign in ("**+", "**−"))
    counts = (
        f"Gains in bold, without that of epoch 1: {won} of {len(ends)}. Losses in bold: {lost}."
    )
    return f"{table(HEAD, lines)}\n{counts}\n"


def of_variants(
    on_digits: Mapping[str, str], on_cifar: Mapping[str, str], folder: Path = RESULTS
) -> str:
    """Variants of D beside the default, on digits and on CIFAR-100: a table of each that has run.

    Args:
        on_digits, on_cifar: the variants in words, by what they add to a run's name.
    """
    digits = of_d.table(_study(folder), sensitivity.BASE, sensitivity.DEFAULT, on_digits, last=1)
    cifar = of_d.table(runs.load(folder), rates.BASE, DEFAULT, on_cifar, runs.LAST)
    shown = {ON_DIGITS: digits, ON_CIFAR: cifar}
    return "\n".join(
        f"{what}\n\n" + re.sub(r"-(?=\d)", "−", lines) for what, lines in shown.items() if lines
    )


def _study(folder: Path) -> dict[str, runs.Experiment]:
    of_settings = folder / "sensitivity"
    return runs.load(of_settings) if of_settings.is_dir() else {}


def of_the_paper() -> str:
    """A table: the smallest and the largest gain of each group of the paper's experiments."""
    lines = []
    for shown, name, pattern in SUMMED:
        rows = [row for group in paper.TABLES if group.name == name for row in group.rows]
        found = [row.gain for row in rows if re.fullmatch(pattern, row.label)]
        gains_ = sorted(gain for gain in found if gain is not None)
        ends = [_signed(gain) for gain in dict.fromkeys((gains_[0], gains_[-1]))]
        lines.append((shown, name, str(len(gains_)), " to ".join(ends)))
    return table(("", "paper", "networks", "gain"), lines)


def _lines(found: dict[str, runs.Experiment]) -> Iterator[tuple[str, ...]]:
    for row in paper.MNIST.rows:
        if row.experiment in found:
            one = found[row.experiment]
            label = f"MNIST, {ON_MNIST[row.experiment]}, {_epochs(one)}"
            yield from _line(label, one, 1, row.gain)
    if "mnist-torch" in found:
        first = {arm: {seed: line[:1] for seed, line in of_seed.items()}
                 for arm, of_seed in found["mnist-torch"].runs.items()}  # fmt: skip
        one = replace(found["mnist-torch"], runs=first)
        yield from _line(FIRST_EPOCH, one, 1, None)
    seen = set()
    for group in (one for one in paper.TABLES if one.name not in OF_VARIANTS):
        for row in group.rows:
            for name in _names(row.experiment):
                if name in found and name not in seen:
                    seen.add(name)
                    one = found[name]
                    label = f"{_network(group)}{row.label}, {_epochs(one)}"
                    yield from _line(label, one, group.last, row.gain)


def _network(group: paper.Table) -> str:
    """What precedes the labels of a table that is of one network: "CIFAR-100, ResNet-v2-20, "."""
    network, on, data = group.caption.partition(",")[0].partition(" on ")
    return f"{data}, {network}, " if on else ""


def _of_tasks(found: dict[str, runs.Experiment]) -> Iterator[tuple[str, ...]]:
    """The project's own tasks: by accuracy, or by PSNR where images are restored."""
    names = {f"{name}-{network}": f"{name}, {tasks.NETWORKS[network]}"
             for name, networks in tasks.PUBLISHED.items() for network in networks}  # fmt: skip
    for share in tasks.SHARES:
        label = f"CIFAR-100 from CIFAR-10, fine-tuned on {share} %"
        names[tasks.FINE_TUNED.format(share)] = label
    for name, label in names.items():
        if name in found:
            yield from _line(f"{label}, {_epochs(found[name])}", found[name], 1, None)
    for network, label in tasks.GROUPED.items():
        name = f"cifar100-{network}"
        if name in found:
            shown = f"CIFAR-100, {label}, {_epochs(found[name])}"
            yield from _line(shown, found[name], runs.LAST, None)
    for name, what, _ in tasks.RESTORED.values():
        if name in found:
            label = f"{what} in photographs, PSNR in dB, {_epochs(found[name])}"
            yield from _line(label, found[name].by("psnr"), 1, None)


def _of_digits(found: dict[str, runs.Experiment]) -> Iterator[tuple[str, ...]]:
    for optimizer, result in sensitivity.tuned(found).items():
        yield from _cells(f"digits, {optimizer}, learning rate tuned", result, None)


def _line(
    label: str, one: runs.Experiment, last: int, theirs: float | None
) -> Iterator[tuple[str, ...]]:
    result = runs.compare(one, last)
    if result is not None:
        yield from _cells(label, result, theirs)


def _cells(label: str, result: runs.Comparison, theirs: float | None) -> Iterator[tuple[str, ...]]:
    if result.seeds > 1:
        width = "" if result.interval is None else f" ± {result.interval:.2f}"
        gain = f"{_signed(result.gain)}{width}".replace(" ", KEEP)
        gain = f"**{gain}**" if result.is_clear else gain
        accuracies = f"{result.plain.mean():.2f} → {result.ours.mean():.2f}".replace(" ", KEEP)
        their = "" if theirs is None else _signed(theirs)
        yield label, accuracies, gain, their, str(result.seeds)


def _signed(gain: float) -> str:
    return f"{gain:+.2f}".replace("-", "−")


def _names(experiment: str) -> Iterator[str]:
    """The name of an experiment under each schedule."""
    data, network, *variant = experiment.split("-")
    for schedule in SCHEDULES:
        yield "-".join([data, network, *([schedule] if schedule else []), *variant])


def _epochs(one: runs.Experiment) -> str:
    return counted(one.settings["epochs"], "epoch")
