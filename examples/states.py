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
