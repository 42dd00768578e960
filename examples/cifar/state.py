"""A run of CIFAR: what is kept of it, and the state from which it is taken up."""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch import nn

from examples import doors, states, variants
from examples.cifar.schedules import BATCH, DECAY, MOMENTUM, RATE, SCHEDULES
from examples.records import Record

# What makes two runs the same; the plain arm has no D.
SETTINGS = ("dataset", "network", "schedule")
SETTINGS_OF_D = ("stages", "depthwise_init", "d_mul", "door")
STAGES = [0, 1, 2, 3]  # all of them are converted, unless it is said


class Run(states.Run):
    """One arm of one seed; made again, it is taken up where it was left.

    Raises:
        DOConvError: if a file cannot be written.
        ValueError: if its files are of a run with other settings, or broken.
    """

    def __init__(
        self, given: argparse.Namespace, arm: str, seed: int, model: nn.Module,
        optimizer: torch.optim.Optimizer, door: doors.Door,
    ) -> None:  # fmt: skip
        epochs = SCHEDULES[given.schedule].epochs
        of_run = {**settings(given, arm), "epochs": epochs}
        threads = torch.get_num_threads()
        name = experiment(given, arm)
        device = states.accelerator(next(model.parameters()).device)
        record = Record(given.out, name, arm, seed, of_run, ("torch",), threads, device)
        super().__init__(record, given.out, model, optimizer, door, epochs)


def settings(given: argparse.Namespace, arm: str) -> dict[str, Any]:
    """The settings of a run but for its epochs."""
    of_d = () if arm == "plain" else SETTINGS_OF_D
    training = {
        "batch": BATCH,
        "optimizer": f"SGD {given.rate:g}, momentum {MOMENTUM}, weight decay {DECAY}",
        "augmentation": "crop of 32 x 32 from 40 x 40, flip",
    }
    return {**{name: getattr(given, name) for name in (*SETTINGS, *of_d)}, **training}


def experiment(given: argparse.Namespace, arm: str) -> str:
    """The name of what is compared: data set, network, and the options that are not the default.

    The plain arm has no D, so every variant of D is compared with the same plain runs.
    """
    parts = [given.dataset, given.network]
    if given.schedule != "short":
        parts.append(given.schedule)
    if given.rate != RATE:
        parts.append(f"rate-{given.rate:g}")
    if arm != "plain":
        parts += _stages(given) + variants.in_name(given)
    parts += doors.in_name(arm, given.door)
    return "-".join(parts)


def _stages(given: argparse.Namespace) -> list[str]:
    return [] if given.stages == STAGES else ["stages" + "".join(map(str, given.stages))]
