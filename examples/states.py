"""The newest state of a training run in torch: from it an interrupted run is taken up.

It is a file of the state dicts of the run's parts, such as the model and the optimizer, and of the
last finished epoch. What an epoch draws depends on the run's seed and the epoch alone, so that a
run that is taken up draws what it would have drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from do_conv.checkpoints.formats.torch import save
from do_conv.files import replacing
from examples import doors
from examples.records import Record


def epoch_seed(seed: int, epoch: int) -> int:
    """What the random numbers of an epoch begin with."""
    return 1000 * seed + epoch


def keep(parts: Mapping[str, Any], epoch: int, path: Path) -> None:
    """Write the parts as they are after an epoch.

    Raises:
        DOConvError: if the file cannot be written; the one before it stays.
    """
    write({**{name: part.state_dict() for name, part in parts.items()}, "epoch": epoch}, path)


def write(content: Any, path: Path) -> None:
    """Write a file of tensors beside its place and move it there."""
    with replacing(path) as beside:
        save(content, beside)


def take_up(parts: Mapping[str, Any], path: Path) -> int:
    """Bring the parts to the state that is kept; the epoch it is of.

    Raises:
        ValueError: if the file is broken, or of other parts.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(state[name])
        epoch: int = state["epoch"]
    except (OSError, RuntimeError, KeyError, ValueError, EOFError, UnpicklingError) as error:
        raise ValueError(
            f"{path} cannot be read as the state of this run: remove it to begin anew"
        ) from error
    return epoch


def accelerator(device: torch.device) -> str | None:
    """The name of a device that is not the processor, for the header of a run."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else None


class Run:
    """A run that, made again, is taken up where it was left.

    Args:
        record: what is kept of it.
        folder: where its state is until it has ended, beside its record.
        model, optimizer: they are brought to the state that is kept.
        door: how the arm is trained.
        epochs: how many a whole run has.

    Attributes:
        epoch: the last one that is finished; model and optimizer are as they were after it.

    Raises:
        DOConvError: if a file cannot be written.
        ValueError: if the state is broken, or of another run.
    """

    def __init__(
        self, record: Record, folder: Path, model: torch.nn.Module,
        optimizer: torch.optim.Optimizer, door: doors.Door, epochs: int,
    ) -> None:  # fmt: skip
        self.record = record
        self._parts, self._door = {"model": model, "optimizer": optimizer}, door
        self._checkpoint = folder / f"{record.name}.pt"
        self.epoch = self._take_up(epochs)

    def _take_up(self, epochs: int) -> int:
        """Read what is there; lines after the checkpoint's epoch are of an epoch not kept."""
        lines = self.record.lines
        if self._checkpoint.exists():
            epoch = take_up(self._parts, self._checkpoint)
        else:
            # Without a state it has ended, or was left before the first one was kept.
            epoch = epochs if len(lines) == epochs else 0
        if len(lines) > epoch:
            self.record.keep(lines[:epoch])
        return epoch

    def add(self, epoch: int, **found: Any) -> None:
        """Keep a finished epoch: its line, then the state after it."""
        self.record.add(epoch, **found)
        keep(self._parts, epoch, self._checkpoint)
        self.epoch = epoch

    def finish(self) -> None:
        """The run has ended: its lines are all that is needed, and what D did (Figure 6)."""
        if self._checkpoint.exists() and self.record.arm == "do-conv":
            note_kernels(self.record, self._door, *self._parts.values())
        self._checkpoint.unlink(missing_ok=True)


def note_kernels(record: Record, door: doors.Door, model: Any, optimizer: Any) -> None:
    """Keep what D did to each kernel (Figure 6), and how much."""
    changes = door.kernel_changes(model, optimizer)
    sizes = door.kernel_sizes(model, optimizer)
    record.note(
        kernel_change={name: one.round(3).tolist() for name, one in changes.items()},
        kernel_size={
            name: {what: round(value, 4) for what, value in one.items()}
            for name, one in sizes.items()
        },
    )
