"""What the three demonstrations have in common: their runs, and what is kept of them."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from examples.mnist import data
from examples.mnist.data import Images
from examples.records import ARMS, RESULTS, Record


class Arm(Protocol):
    """A network in training."""

    def train(self, images: np.ndarray, classes: np.ndarray) -> None:
        """Take one pass over the images, in this order."""

    def classes(self, images: np.ndarray) -> np.ndarray:
        """The classes it gives images."""


@dataclass(frozen=True)
class Demonstration:
    """One of the three.

    Attributes:
        framework: its name.
        epochs: how long a run is.
        training: how many of the training images are trained on.
        settings: the other settings, for the record.
        packages: those whose versions are kept.
        download: the framework's own loader.
        arm: makes an arm for a seed: both arms have the same weights.
    """

    framework: str
    epochs: int
    training: int
    settings: dict[str, Any]
    packages: tuple[str, ...]
    download: data.Loader
    arm: Callable[[str, int], Arm]


def main(demonstration: Demonstration, arguments: list[str] | None = None) -> int:
    """Run every seed of both arms; what cannot be done is one sentence."""
    given = _arguments(demonstration).parse_args(arguments)
    try:
        train, test = data.load(given.data, demonstration.download)
        for seed in given.seeds:
            for arm in ARMS:
                _run(demonstration, given, train, test, arm, seed)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _arguments(demonstration: Demonstration) -> argparse.ArgumentParser:
    name = demonstration.framework
    parser = argparse.ArgumentParser(description=f"MNIST in {name}, plain and with DO-Conv.")
    add = parser.add_argument
    add("--data", type=Path, help="the folder of MNIST's four files; otherwise it is downloaded")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    add("--epochs", type=int, default=demonstration.epochs)
    add("--out", type=Path, default=RESULTS, help="where the results go")
    return parser


def _run(
    demonstration: Demonstration, given: argparse.Namespace, train: Images, test: Images, arm: str,
    seed: int,
) -> None:  # fmt: skip
    """Train one arm of one seed; a run that was interrupted begins anew."""
    name = f"mnist-{demonstration.framework}"
    settings = {**demonstration.settings, "epochs": given.epochs, "images": demonstration.training}
    threads = int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))
    record = Record(given.out, name, arm, seed, settings, demonstration.packages, threads)
    if len(record.lines) == given.epochs:
        return
    record.keep([])
    learned, held_out = _split(train, demonstration.training)
    network = demonstration.arm(arm, seed)
    for epoch in range(1, given.epochs + 1):
        started = time.perf_counter()
        order = np.random.default_rng((seed, epoch)).permutation(len(learned))
        network.train(scaled(learned.images[order]), learned.classes[order])
        found = {"accuracy": accuracy(network, test)}
        if len(held_out):
            # The authors' figure is of these; those of the test images stand beside it.
            found = {"accuracy": accuracy(network, held_out), "accuracy_test": found["accuracy"]}
        record.add(epoch, **found, seconds=round(time.perf_counter() - started, 1))
        print(f"{record.name}: epoch {epoch}, accuracy {found['accuracy']:.2f} %", flush=True)


def _split(images: Images, training: int) -> tuple[Images, Images]:
    """The images that are trained on, and those after them."""
    return images.part(0, training), images.part(training, len(images))


def scaled(images: np.ndarray) -> np.ndarray:
    """Bytes as `(n, 28, 28)` numbers from 0 to 1."""
    return images.astype("float32") / 255


def batches(size: int, *arrays: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """The arrays in batches, in their order; the last one may be smaller."""
    for start in range(0, len(arrays[0]), size):
        yield tuple(array[start : start + size] for array in arrays)


def accuracy(network: Arm, images: Images) -> float:
    """How many of the images get their class, in %."""
    found = [network.classes(scaled(some)) for (some,) in batches(1000, images.images)]
    return round(100 * float(np.mean(np.concatenate(found) == images.classes)), 3)
