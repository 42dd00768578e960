"""The state of a run, beside its record until it has ended: from it the run is taken up."""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch import nn

from examples import doors, states
from examples.cifar.schedules import BATCH, DECAY, MOMENTUM, RATE, SCHEDULES
from examples.records import Record

# What makes two runs the same; the plain arm has no D.
SETTINGS = ("dataset", "network", "schedule")
SETTINGS_OF_D = ("stages", "depthwise_init", "d_mul", "door")
STAGES = [0, 1, 2, 3]  # all of them are converted, unless it is said
TRAINING = {
    "batch": BATCH, "optimizer": f"SGD {RATE}, momentum {MOMENTUM}, weight decay {DECAY}",
    "augmentation": "crop of 32 x 32 from 40 x 40, flip",
}  # fmt: skip


class Run:
    """One arm of one seed; made again, it is taken up where it was left.

    Attributes:
        record: what is kept of it.
        epoch: the last one that is finished; model and optimizer are as they were after it.

    Raises:
        DOConvError: if a file cannot be written.
        ValueError: if its files are of a run with other settings, or broken.
    """

    def __init__(
        self, given: argparse.Namespace, arm: str, seed: int, model: nn.Module,
        optimizer: torch.optim.Optimizer, door: doors.Door,
    ) -> None:  # fmt: skip
        self._parts, self._door = {"model": model, "optimizer": optimizer}, door
        of_d = () if arm == "plain" else SETTINGS_OF_D
        settings = {name: getattr(given, name) for name in (*SETTINGS, *of_d)}
        settings |= {"epochs": SCHEDULES[given.schedule].epochs, **TRAINING}
        threads = torch.get_num_threads()
        name = experiment(given, arm)
        self.record = Record(given.out, name, arm, seed, settings, ("torch",), threads)
        self._checkpoint = given.out / f"{self.record.name}.pt"
        self.epoch = self._take_up()

    def _take_up(self) -> int:
        """Read what is there; lines after the checkpoint's epoch are of an epoch not kept."""
        lines = self.record.lines
        if self._checkpoint.exists():
            epoch = states.take_up(self._parts, self._checkpoint)
        else:
            epoch = lines[-1]["epoch"] if lines else 0  # it has ended, or not begun
        if len(lines) > epoch:
            self.record.keep(lines[:epoch])
        return epoch

    def add(self, epoch: int, **found: Any) -> None:
        """Keep a finished epoch: its line, then the state after it."""
        self.record.add(epoch, **found)
        states.keep(self._parts, epoch, self._checkpoint)
        self.epoch = epoch

    def finish(self) -> None:
        """The run has ended: its lines are all that is needed, and what D did (Figure 6)."""
        if self._checkpoint.exists() and self.record.arm == "do-conv":
            found = self._door.kernel_changes(*self._parts.values())
            changes = {name: change.round(3).tolist() for name, change in found.items()}
            self.record.note(kernel_change=changes)
        self._checkpoint.unlink(missing_ok=True)


def experiment(given: argparse.Namespace, arm: str) -> str:
    """The name of what is compared: data set, network, and the options that are not the default.

    The plain arm has no D, so every variant of D is compared with the same plain runs.
    """
    parts = [given.dataset, given.network]
    if given.schedule != "short":
        parts.append(given.schedule)
    if arm != "plain":
        parts += _variant(given)
    parts += doors.in_name(arm, given.door)
    return "-".join(parts)


def _variant(given: argparse.Namespace) -> list[str]:
    """The options of D that are not those of Table 1."""
    parts = []
    if given.stages != STAGES:
        parts.append("stages" + "".join(map(str, given.stages)))
    if given.depthwise_init != "identity":
        parts.append(given.depthwise_init)
    if given.d_mul != "MN":
        parts.append({"(M+2)(N+2)": "dmul-wider", "4MN": "dmul-4"}[given.d_mul])
    return parts
