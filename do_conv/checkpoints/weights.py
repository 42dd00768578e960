"""A network's weights in a file of its framework."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from do_conv import files, frameworks
from do_conv.checkpoints import formats
from do_conv.checkpoints.formats import Checkpoint
from do_conv.checkpoints.neutral.transfer import save

_NEUTRAL = ".safetensors"


def write(model: Any, path: str | Path) -> None:
    """Write a network's weights as its framework does, or to a neutral file.

    Args:
        model: a PyTorch module, Keras model or Gluon block.
        path: a `.pt` or `.pth` file of PyTorch, a `.weights.h5` file of Keras, a `.params` file of
            Gluon, or `.safetensors`.

    Raises:
        DOConvError: if the file is of another kind, or cannot be written.
    """
    path, framework = Path(path), frameworks.of(model)
    format = formats.of(path, endings(framework))
    if path.name.lower().endswith(_NEUTRAL):
        save(model, path)
    elif framework != "torch":
        with files.replacing(path) as beside:
            save_own = model.save_weights if framework == "keras" else model.save_parameters
            save_own(str(beside))
    else:
        state = model.state_dict()
        formats.write(format, path, Checkpoint([state], state))


def endings(framework: str) -> dict[str, str]:
    """The endings of the files that `write` writes, and their formats."""
    kinds = (framework, "safetensors")
    return {end: kind for end, kind in formats.FOLDED.items() if kind in kinds}
