"""What the tasks differ in: each recipe is a class, and `training.py` runs it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from examples.recipes import stages
from examples.recipes.rates import Factor

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's colours


class Data(NamedTuple):
    """Images to train on and to test with, and how a batch is made of some; None stacks them."""

    train: Sequence[Any]
    test: Sequence[Any]
    collate: Callable[[list[Any]], Any] | None = None


class Recipe:
    """A task.

    Attributes:
        summary: one line, for `--help`.
        networks: what `--network` may be.
        metric: what `accuracy` is in the lines that are kept.
        test_batch: images of one batch of a test.
        packages: those whose versions are kept beside PyTorch's.
    """

    summary: str
    networks: Collection[str]
    metric: str
    test_batch = 1
    packages: tuple[str, ...] = ("torchvision",)

    def options(self, parser: argparse.ArgumentParser) -> None:
        """Add what only this task has."""

    def defaults(self, given: argparse.Namespace) -> dict[str, Any]:
        """The published epochs, batch, rate, decay, and number of training images."""
        raise NotImplementedError

    def experiment(self, given: argparse.Namespace) -> str:
        """The name of what is compared."""
        raise NotImplementedError

    def ready(self, given: argparse.Namespace) -> None:
        """Refuse what would fail only later, such as a missing package."""

    def network(self, given: argparse.Namespace) -> nn.Module:
        """The plain network, with random weights."""
        raise NotImplementedError

    def input_shape(self, given: argparse.Namespace) -> tuple[int, ...]:
        """Of one image, as a batch."""
        raise NotImplementedError

    def data(self, given: argparse.Namespace) -> Data:
        """The images.

        Raises:
            FileNotFoundError: if something is not there.
            ValueError: if it is not as it should be.
        """
        raise NotImplementedError

    def take(self, model: nn.Module, before: stages.Pretrained, path: Path) -> None:
        """Load the plain weights of the stage before: of such a network, or of its backbone."""
        whole = any(name.startswith("backbone.") for name in before.state)
        backbone = getattr(model, "backbone", None)
        into = model if whole or backbone is None else getattr(backbone, "body", backbone)
        stages.take(into, before.state, path)

    def rate_of(self, given: argparse.Namespace, name: str) -> float:
        """The factor of the rate for the parameter of a name."""
        return 1.0

    def factor(self, given: argparse.Namespace, steps: int) -> Factor:
        """How the rate goes, where an epoch has so many steps."""
        raise NotImplementedError

    def loss(self, model: nn.Module, batch: Any, given: argparse.Namespace) -> Tensor:
        """What is made small."""
        raise NotImplementedError

    def evaluate(
        self, model: nn.Module, batches: DataLoader, given: argparse.Namespace, device: torch.device
    ) -> dict[str, float]:
        """The published metric in % as `accuracy`, and more, over the images of all processes."""
        raise NotImplementedError


def moved(value: Any, device: torch.device) -> Any:
    """Everything in a batch, on the device."""
    if torch.is_tensor(value):
        return value.to(device, non_blocking=True)
    if isinstance(value, dict):
        return {key: moved(one, device) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [moved(one, device) for one in value]
    return value


def present(path: Path, what: str) -> Path:
    """A path that has to be there.

    Raises:
        FileNotFoundError: if it is not.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there: --data has to have {what}")
    return path
