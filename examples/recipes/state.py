"""The files of a run: lines for its epochs, its newest state until it has ended, its network.

`NAME.jsonl` and `NAME.json` are those of every example (`examples/records.py`); `NAME.pt` is the
state, written after each epoch beside its place and moved there; `NAME.plain.pt` is the state dict
of the plain network, folded if need be, and stands for a run that has ended.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch import nn

from do_conv.torch import folded_state_dict
from examples import states
from examples.recipes import distributed
from examples.records import Record


class Run:
    """One run; made again, it is taken up where it was left. Only the first process writes.

    Args:
        given: the options.
        experiment: the name of what is compared.
        settings: what makes two runs the same.
        parts: what the state is of, such as the model and the optimizer, by name.
        packages: those whose versions are kept.

    Attributes:
        epoch: the last one that is finished; the parts are as they were after it.
        has_ended: whether the plain network is written.
        plain: its file.

    Raises:
        DOConvError: if a file cannot be written.
        ValueError: if its files are of a run with other settings, or broken.
    """

    def __init__(
        self, given: argparse.Namespace, experiment: str, settings: dict[str, Any],
        parts: dict[str, Any], packages: tuple[str, ...],
    ) -> None:  # fmt: skip
        self._parts = parts
        name = f"{experiment}-{given.arm}-seed{given.seed}"
        self._checkpoint, self.plain = given.out / f"{name}.pt", given.out / f"{name}.plain.pt"
        self._record = None
        if distributed.rank() == 0:
            self._record = Record(
                given.out, experiment, given.arm, given.seed, settings, ("torch", *packages),
                torch.get_num_threads(),
                states.accelerator(next(parts["model"].parameters()).device),
            )  # fmt: skip
        # Every process reads the state: momentum is not among what is sent around.
        is_there, ended = distributed.shared((self._checkpoint.exists(), self.plain.exists()))
        self.has_ended = ended and not is_there
        self.epoch = states.take_up(parts, self._checkpoint) if is_there else 0
        # Lines after the state's epoch are of an epoch that was not kept.
        if self._record is not None and not self.has_ended:
            self._record.keep(self._record.lines[: self.epoch])

    def add(self, epoch: int, **found: Any) -> None:
        """Keep a finished epoch: its line, then the state after it."""
        self.epoch = epoch
        if self._record is not None:
            self._record.add(epoch, **found)
            states.keep(self._parts, epoch, self._checkpoint)

    def finish(self, model: nn.Module) -> None:
        """The run has ended: write the plain network, whose lines and weights are all that stays.

        Raises:
            DOConvError: if a kernel is not finite, or a file cannot be written.
        """
        if self._record is not None:
            states.write(folded_state_dict(model), self.plain)
            self._checkpoint.unlink()
