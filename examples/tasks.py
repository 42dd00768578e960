"""One way to train for the project's own tasks, in PyTorch.

A task says what is trained on what. Both arms start from the same weights and see the same batches,
under an optimizer with a half cosine to zero: Adam, unless the task has another. An epoch is a
number of steps: the data sets are small, and a pass over some of them would be two steps.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from examples import doors, states, variants
from examples.records import ARMS, RESULTS, Record

RATE = 1e-3
MOMENTUM = 0.9  # of SGD


@dataclass(frozen=True)
class Training:
    """An optimizer, its first learning rate, and its weight decay."""

    optimizer: str = "Adam"
    rate: float = RATE
    decay: float = 0.0

    def __str__(self) -> str:
        parts = [f"{self.optimizer} {self.rate:g}"]
        if self.optimizer == "SGD":
            parts.append(f"momentum {MOMENTUM}")
        if self.decay:
            parts.append(f"weight decay {self.decay:g}")
        return ", ".join([*parts, "half cosine to 0"])

    def over(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimizer over parameters."""
        if self.optimizer == "SGD":
            return torch.optim.SGD(parameters, self.rate, MOMENTUM, weight_decay=self.decay)
        return torch.optim.Adam(parameters, self.rate, weight_decay=self.decay)


class Task(Protocol):
    """What is trained on what.

    Attributes:
        name: of the experiment.
        settings: what makes two runs the same, with `steps`, those of an epoch. `measures` names
            what `measured` finds, if that is not the accuracy alone.
        training: the optimizer.
        epochs: how many, unless others are asked for.
    """

    name: str
    settings: Mapping[str, Any]
    training: Training
    epochs: int

    @property
    def notes(self) -> Mapping[str, Any]:
        """What else the headers of its runs keep."""

    def network(self) -> nn.Module:
        """A plain network."""

    def batches(self, generator: torch.Generator) -> Iterable[tuple[Tensor, Tensor]]:
        """The inputs and targets of the steps of an epoch."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of a batch."""

    def measured(self, network: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """What a trained network is worth on the data held out."""


FILES = "the folder of the files; otherwise those of a package are read"


def arguments(about: str, data: str | None = FILES) -> argparse.ArgumentParser:
    """The options that all tasks have; `--data` has this help, and is left out for None."""
    parser = argparse.ArgumentParser(description=about)
    add = parser.add_argument
    if data is not None:
        add("--data", type=Path, help=data)
    add("--arms", nargs="+", choices=ARMS, default=ARMS)
    add("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    add("--epochs", type=int, help="default: those of the results that are kept")
    doors.add_to(parser)
    variants.add_first_to(parser)
    variants.add_to(parser)
    add("--device", help="default: cuda if there is one, else cpu")
    add("--threads", type=int, default=torch.get_num_threads())
    add("--out", type=Path, default=RESULTS, help="where the results go")
    return parser


def run_all(
    given: argparse.Namespace, tasks: Callable[[argparse.Namespace], Iterable[Task]]
) -> int:
    """Run every seed of every arm of every task; what cannot be done is one sentence."""
    torch.set_num_threads(given.threads)
    try:
        for task in tasks(given):
            for seed in given.seeds:
                for arm in given.arms:
                    run(given, task, arm, seed)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def made(
    given: argparse.Namespace, task: Task, arm: str, seed: int
) -> tuple[nn.Module, torch.optim.Optimizer, doors.Door]:
    """The network of a run, its optimizer, and the door: all have the same weights."""
    door = doors.Door(arm, given.door, **variants.of_convert(given))
    torch.manual_seed(seed)
    # The identity start of D draws nothing, and another one draws after the weights.
    model = door.network(task.network().to(device(given)))
    return model, door.optimizer(task.training.over(model.parameters()), model), door


def device(given: argparse.Namespace) -> torch.device:
    """The one that was asked for, or the fastest there is."""
    return torch.device(given.device or ("cuda" if torch.cuda.is_available() else "cpu"))


def run(given: argparse.Namespace, task: Task, arm: str, seed: int) -> None:
    """Train one arm of one seed to its end, from where it was left."""
    if given.epochs is None:
        given = argparse.Namespace(**{**vars(given), "epochs": task.epochs})
    model, optimizer, door = made(given, task, arm, seed)
    settings = {
        **task.settings, "epochs": given.epochs, "optimizer": str(task.training),
    }  # fmt: skip
    if door.name is not None:
        settings.update(variants.settings(given), door=door.name)
    variant = [] if door.name is None else variants.in_name(given)
    name = "-".join([task.name, *variant, *doors.in_name(arm, given.door)])
    on = states.accelerator(device(given))
    record = Record(given.out, name, arm, seed, settings, ("torch",), given.threads, on)
    if not record.lines:
        record.note(**task.notes)
    kept = states.Run(record, given.out, model, optimizer, door, given.epochs)
    for epoch in range(kept.epoch + 1, given.epochs + 1):
        started = time.perf_counter()
        loss = train_epoch(given, task, model, optimizer, epoch, seed)
        found = measure(given, task, model)
        seconds = round(time.perf_counter() - started, 1)
        kept.add(epoch, **found, loss=loss, seconds=seconds)
        shown = ", ".join(f"{name} {value:.4g}" for name, value in found.items())
        print(
            f"{record.name}: epoch {epoch} of {given.epochs}, loss {loss:.4g}, {shown}, "
            f"{seconds:.0f} s",
            flush=True,
        )
    kept.finish()


def train_epoch(
    given: argparse.Namespace, task: Task, model: nn.Module, optimizer: torch.optim.Optimizer,
    epoch: int, seed: int,
) -> float:  # fmt: skip
    """The steps of an epoch; the mean loss.

    The batches depend on the seed and the epoch alone, so both arms see the same ones, and a run
    that is taken up sees those it would have seen.
    """
    generator = torch.Generator().manual_seed(states.epoch_seed(seed, epoch))
    on, steps, losses = device(given), task.settings["steps"], []
    rate = task.training.rate
    model.train()
    for step, (inputs, targets) in enumerate(task.batches(generator)):
        for group in optimizer.param_groups:
            group["lr"] = rate * factor((epoch - 1) * steps + step, given.epochs * steps)
        loss = task.loss(model(inputs.to(on)), targets.to(on))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return sum(losses) / len(losses)


def factor(step: int, steps: int) -> float:
    """Of the learning rate in a step, from 0: a half cosine that ends at zero."""
    return 0.5 * (1 + math.cos(math.pi * step / steps))


@torch.no_grad()
def measure(given: argparse.Namespace, task: Task, model: nn.Module) -> dict[str, float]:
    """What the task finds of a network in evaluation mode."""
    model.eval()
    on = device(given)
    return task.measured(lambda inputs: model(inputs.to(on)).cpu())
