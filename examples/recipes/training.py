"""Train one arm of a recipe to its end: on one device, or on several with `torchrun`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from do_conv.core.errors import MissingFrameworkError
from do_conv.files import output_directory
from do_conv.torch import composed
from examples import doors
from examples.recipes import distributed, dry_run, feeding, options, stages
from examples.recipes.recipe import Recipe, moved
from examples.recipes.state import Run
from examples.states import epoch_seed

MOMENTUM = 0.9
SAID_EVERY = 30.0  # seconds, within an epoch


def main(recipe: Recipe, arguments: list[str] | None = None) -> int:
    """Do what the options say; what cannot be done is one sentence, and exit code 2."""
    try:
        given = options.parsed(recipe, arguments)
        if given.dry_run:
            print(dry_run.told(recipe, given, recipe.network(given)))
            return 0
        device = distributed.device_of(given.device)
        recipe.ready(given)
        with distributed.group(device):
            Training(recipe, given, device).run()
        return 0
    except (OSError, ValueError, MissingFrameworkError) as error:
        # An error of a process that reads images comes with its traceback, whose last line it is.
        print(str(error).strip().splitlines()[-1], file=sys.stderr)
        return 2


class Training:
    """One run: data, model, optimizer, and the loop.

    Raises:
        FileNotFoundError: if data or weights are not there.
        ValueError: if something cannot be as it was asked for.
    """

    def __init__(self, recipe: Recipe, given: argparse.Namespace, device: torch.device) -> None:
        self.recipe, self.given, self.device = recipe, given, device
        data = recipe.data(given)
        feeding.check(len(data.train), given.batch)
        given.images = len(data.train)
        before = None
        if given.pretrained is not None:
            before = stages.Pretrained(given.pretrained, given.pretrained_arm)
        door = options.door(given)
        self.model = self._model(before, door)
        self._order = feeding.Shuffled(len(data.train), given.batch, given.seed)
        self._train = feeding.loader(data.train, self._order, given.workers, data.collate)
        in_order = feeding.InOrder(len(data.test), recipe.test_batch)
        self._test = feeding.loader(data.test, in_order, given.workers, data.collate)
        sgd = torch.optim.SGD(self._groups(), given.rate, MOMENTUM)
        self._optimizer = door.optimizer(sgd, self.model)
        self._factor = recipe.factor(given, len(self._order))
        scales = given.precision == "float16" and device.type == "cuda"
        self._scaler = torch.amp.GradScaler(device.type, enabled=scales)
        output_directory(given.out)
        parts = {"model": self.model, "optimizer": self._optimizer, "scaler": self._scaler}
        self.name = options.experiment(recipe, given, before)
        kept = options.settings(given, before)
        self.kept = Run(given, self.name, kept, parts, recipe.packages)
        self._parallel = distributed.wrapped(self.model, device, given.sync_bn)

    def _model(self, before: stages.Pretrained | None, door: doors.Door) -> nn.Module:
        """Both arms and all processes have the same weights: D is drawn after them, if at all."""
        torch.manual_seed(self.given.seed)
        model = self.recipe.network(self.given)
        if before is not None:
            self.recipe.take(model, before, Path(self.given.pretrained))
        return door.network(model).to(self.device, memory_format=torch.channels_last)

    def _groups(self) -> list[dict[str, Any]]:
        """Parameters of one rate and decay together."""
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                without = self.given.no_decay_of_norms and parameter.ndim < 2
                decay = 0.0 if without else self.given.decay
                factor = self.recipe.rate_of(self.given, name)
                groups.setdefault((factor, decay), []).append(parameter)
        return [
            {"params": parameters, "factor": factor, "weight_decay": decay}
            for (factor, decay), parameters in groups.items()
        ]

    def run(self) -> None:
        """Train to the end, from where it was left."""
        epochs = self.given.epochs
        if self.kept.has_ended:
            self._say(f"{self.kept.plain} is there: the run has ended")
            return
        for epoch in range(self.kept.epoch + 1, epochs + 1):
            started = time.perf_counter()
            loss = self.train(epoch)
            distributed.same_buffers(self.model)
            found = self.evaluate()
            seconds = round(time.perf_counter() - started, 1)
            self.kept.add(epoch, **found, loss=loss, seconds=seconds)
            numbers = ", ".join(f"{name} {value:.2f}" for name, value in found.items())
            self._say(
                f"{self.name} {self.given.arm}: epoch {epoch} of {epochs}, loss {loss:.3f}, "
                f"{numbers} (accuracy is {self.recipe.metric} in %), {seconds:.0f} s"
            )
        self.kept.finish(self.model)
        self._say(f"wrote {self.kept.plain}, the state dict of the plain network")

    def train(self, epoch: int) -> float:
        """One pass over the training images; the mean loss.

        Raises:
            ValueError: if the loss is not a number.
        """
        # What a network draws, such as dropout, depends on these alone, too.
        seed = epoch_seed(self.given.seed, epoch) * feeding.MANY
        torch.manual_seed(seed + distributed.rank())
        self._order.epoch, steps = epoch, len(self._order)
        self._parallel.train()
        total, said = torch.zeros((), device=self.device), time.perf_counter()
        for step, batch in enumerate(self._train):
            total += self._step(batch, (epoch - 1) * steps + step)
            if time.perf_counter() - said >= SAID_EVERY:
                said, mean = time.perf_counter(), total.item() / (step + 1)
                self._say(f"epoch {epoch}, step {step + 1:,} of {steps:,}, loss {mean:.3f}")
        loss: float = distributed.summed(total).item() / (steps * distributed.world())
        if not torch.isfinite(total):
            raise ValueError(f"the loss of epoch {epoch} is {loss}: begin anew with less --rate")
        return loss

    def _step(self, batch: Any, step: int) -> torch.Tensor:
        for group in self._optimizer.param_groups:
            group["lr"] = self.given.rate * group["factor"] * self._factor(step)
        with self._autocast():
            loss = self.recipe.loss(self._parallel, moved(batch, self.device), self.given)
        self._optimizer.zero_grad()
        self._scaler.scale(loss).backward()
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return loss.detach()

    def _autocast(self) -> Any:
        is_mixed = self.given.precision != "float32"
        dtype = getattr(torch, self.given.precision) if is_mixed else None
        return torch.autocast(self.device.type, dtype, enabled=is_mixed)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """What the recipe finds on the test images."""
        self.model.eval()
        with composed(self.model), self._autocast():
            return self.recipe.evaluate(self.model, self._test, self.given, self.device)

    @staticmethod
    def _say(sentence: str) -> None:
        if distributed.rank() == 0:
            print(sentence, flush=True)
