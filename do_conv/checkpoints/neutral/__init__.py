"""The neutral file: a safetensors file whose metadata describes the layers in it.

`docs/checkpoints.md` has the definition, of version 1. The arrays are in the core's order of axes,
which is PyTorch's and Gluon's.

description    what the file says of a layer
transfer       `save` and `load`: the weights of live models, from one framework to another
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from do_conv import files
from do_conv.adapter import Description, array_name
from do_conv.checkpoints import checks
from do_conv.checkpoints.formats import read as read_format
from do_conv.checkpoints.formats import safetensors
from do_conv.checkpoints.formats.safetensors import Raw
from do_conv.checkpoints.neutral.description import (
    check,
    described,
    folded,
    is_neutral,
    metadata,
    roles,
)

__all__ = [
    "Description", "Neutral", "described", "folded", "is_neutral", "metadata", "read", "write",
]  # fmt: skip


@dataclass
class Neutral:
    """The content of a neutral file.

    Attributes:
        tensors: every array by its name, those of a layer as `NAME.weight` and so on.
        layers: the layers that are described, by name; "" is a bare layer.
    """

    tensors: dict[str, Raw]
    layers: dict[str, Description] = field(default_factory=dict)

    def arrays(self, layer: str) -> dict[str, np.ndarray]:
        """A layer's `weight`, `bias` and so on, in float32, or float64 where they are.

        Raises:
            DOConvError: if one is not floating-point, or is missing.
        """
        arrays = {}
        for role, raw in self._stored(layer).items():
            array = raw.array()
            if array is None:
                checks.layer_dtype(layer, f"its {role} of dtype {raw.dtype}")
            arrays[role] = array
        return arrays

    def _stored(self, layer: str) -> dict[str, Raw]:
        before = array_name(layer, "")
        inside = {
            k.removeprefix(before): v for k, v in self.tensors.items() if k.startswith(before)
        }
        return {role: inside[role] for role in roles(self.layers[layer], inside, layer)}

    def others(self) -> dict[str, Raw]:
        """The arrays that belong to no described layer."""
        own = {array_name(layer, role) for layer in self.layers for role in self._stored(layer)}
        return {name: raw for name, raw in self.tensors.items() if name not in own}

    def check(self) -> None:
        """Compare every layer's arrays with its description.

        Raises:
            DOConvError: if they do not fit.
        """
        for layer, description in self.layers.items():
            shapes = {role: raw.shape for role, raw in self._stored(layer).items()}
            check(description, layer, shapes)


def read(path: str | Path) -> Neutral:
    """The content of a neutral file.

    Raises:
        DOConvError: if it is not one, or its arrays do not fit their description.
        MissingFrameworkError: if safetensors is not installed.
    """
    checkpoint = read_format(safetensors, Path(path))
    neutral = Neutral(checkpoint.states[0], described(checkpoint.rest, str(path)))
    neutral.check()
    return neutral


def write(path: str | Path, neutral: Neutral) -> None:
    """Write a neutral file: whole, or not at all.

    Raises:
        DOConvError: if the arrays do not fit their description, or the file cannot be written.
    """
    neutral.check()
    with files.replacing(path) as beside:
        safetensors.write_raw(beside, neutral.tensors, metadata(neutral.layers))
