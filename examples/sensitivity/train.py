"""Train small networks on handwritten digits in many settings, plain and with DO-Conv.

    python -m examples.sensitivity.train --settings sgd adam

The digits are those of scikit-learn. Few of them are trained on, so that the networks differ: 300
of 1,797. A learning rate can be chosen by 450 others; the accuracy is that of the last 1,047. A run
takes seconds, and each setting has ten seeds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from do_conv.demo import digits
from examples import tasks
from examples.records import RESULTS
from examples.sensitivity.settings import SETTINGS, Setting

EPOCHS, STEPS = 6, 50
TRAIN = 300
SEEDS = list(range(10))
FOLDER = "sensitivity"  # in the folder of results


def main(arguments: list[str] | None = None) -> int:
    """Run every seed of both arms in each setting."""
    return tasks.run_all(_arguments().parse_args(arguments), made)


def _arguments() -> argparse.ArgumentParser:
    parser = tasks.arguments(__doc__.splitlines()[0], data=None)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.set_defaults(seeds=SEEDS, out=RESULTS / FOLDER)
    return parser


def made(given: argparse.Namespace) -> Iterable[Digits]:
    """A task for each setting."""
    for name in given.settings:
        yield Digits(name, SETTINGS[name])


class Digits:
    """Digits, and a network of a setting; see `examples.tasks.Task`."""

    def __init__(self, name: str, setting: Setting) -> None:
        data = digits.load()
        images, classes = torch.from_numpy(data.train_x), _classes(data.train_y)
        self._train = images[:TRAIN], classes[:TRAIN]
        self._parts = {
            "accuracy": (images[TRAIN:], classes[TRAIN:]),
            "validation": (torch.from_numpy(data.test_x), _classes(data.test_y)),
        }
        self.name = f"digits-{name}"
        self._setting = setting
        self.epochs = EPOCHS
        self.training = tasks.Training(setting.optimizer, setting.rate, setting.decay)
        self.settings: dict[str, Any] = {
            "dataset": "digits", **asdict(setting), "steps": STEPS, "train": TRAIN,
            "measures": list(self._parts),
        }  # fmt: skip
        self.notes: dict[str, Any] = {}

    def network(self) -> nn.Module:
        """A plain network."""
        return network(self._setting.depth, self._setting.width)

    def batches(self, generator: torch.Generator) -> Iterable[tuple[Tensor, Tensor]]:
        """Images in random order, again and again, and their classes."""
        (images, classes), needed = self._train, STEPS * self._setting.batch
        passes = -(-needed // TRAIN)
        order = torch.cat([torch.randperm(TRAIN, generator=generator) for _ in range(passes)])
        for chosen in order[:needed].split(self._setting.batch):
            yield images[chosen], classes[chosen]

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The cross entropy."""
        return nn.functional.cross_entropy(outputs, targets)

    def measured(self, network: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """The accuracies in % on the test and the validation images."""
        found = {}
        for name, (images, classes) in self._parts.items():
            right = int((network(images).argmax(1) == classes).sum())
            found[name] = round(100 * right / len(classes), 3)
        return found


def _classes(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values).long()


def network(depth: int, width: int) -> nn.Module:
    """Convolutions of 3 x 3 with normalisation and ReLU; their maps are halved after half."""
    layers: list[nn.Module] = []
    for i in range(depth):
        convolution = nn.Conv2d(1 if i == 0 else width, width, 3, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(width), nn.ReLU()]
        if i + 1 == depth // 2:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


if __name__ == "__main__":
    sys.exit(main())
