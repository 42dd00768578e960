"""The neutral file: a safetensors file whose metadata describes the convolutions in it.

`docs/checkpoints.md` has the definition, of version 1. The arrays are in the core's order of axes,
which is PyTorch's and Gluon's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from do_conv import files
from do_conv.checkpoints import layers as stored_layers
from do_conv.checkpoints.formats import read as read_format
from do_conv.checkpoints.formats import safetensors
from do_conv.checkpoints.formats.safetensors import Raw
from do_conv.checkpoints.layers import DELTA, SEPARABLE, Stored
from do_conv.core import rules
from do_conv.core.spec import Shape

FORMAT, VERSION = "do_conv", "1"
KINDS = ("convolution", "transposed", "separable")


@dataclass(frozen=True)
class Description:
    """One layer of a neutral file.

    Attributes:
        kind: "convolution", "transposed" or "separable".
        kernel_size: K.
        groups: G.
        d_mul: D_mul; None for a plain layer, whose `weight` is the kernel that is applied.
    """

    kind: str
    kernel_size: Shape
    groups: int = 1
    d_mul: int | None = None

    def __post_init__(self) -> None:
        rules.choice("kind", self.kind, KINDS)
        object.__setattr__(self, "kernel_size", rules.kernel_axes(self.kernel_size))
        rules.integer("groups", self.groups)
        if self.d_mul is not None:
            rules.integer("d_mul", self.d_mul)


@dataclass
class Neutral:
    """What a neutral file holds.

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
        names = _names(self.layers[layer], layer, self.tensors)
        found = {role: self.tensors[name].array() for role, name in names.items()}
        arrays = {role: array for role, array in found.items() if array is not None}
        if len(arrays) < len(found):
            rules.layer_dtype(layer, "others")
        return arrays

    def check(self) -> None:
        """Compare every layer's arrays with its description.

        Raises:
            DOConvError: if they do not fit.
        """
        for layer, description in self.layers.items():
            names = _names(description, layer, self.tensors)
            _check(layer, description, {k: self.tensors[n].shape for k, n in names.items()})


def read(path: str | Path) -> Neutral:
    """What a neutral file holds.

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


def metadata(layers: Mapping[str, Description]) -> dict[str, str]:
    """The metadata of a file with these layers."""
    table = {name: asdict(description) for name, description in layers.items()}
    return {"format": FORMAT, "version": VERSION, "layers": json.dumps(table)}


def is_neutral(found: Any) -> bool:
    """Whether metadata says that a file is a neutral one, of whatever version."""
    return isinstance(found, dict) and found.get("format") == FORMAT


def described(found: Any, path: str) -> dict[str, Description]:
    """The layers that metadata describes.

    Raises:
        DOConvError: if it is not the metadata of a neutral file of a known version.
    """
    if not is_neutral(found) or found.get("version") != VERSION:
        rules.neutral_file(path, _shown(found))
    try:
        table = json.loads(found["layers"])
        return {name: Description(**one) for name, one in table.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        rules.neutral_file(path, "layers that are not such a description")


def _shown(found: Any) -> str:
    if not isinstance(found, dict):
        return "no metadata"
    return f"format {found.get('format')!r} and version {found.get('version')!r}"


def _names(description: Description, layer: str, tensors: Mapping[str, Any]) -> dict[str, str]:
    """The names of a layer's arrays, by what they are called in one."""
    before = f"{layer}." if layer else ""
    expected = ["weight"]
    if description.kind == "separable":
        expected.append(SEPARABLE)
    elif description.d_mul is not None and math.prod(description.kernel_size) > 1:
        expected.append(DELTA)
    found = [role for role in ("weight", DELTA, SEPARABLE) if before + role in tensors]
    rules.layer_keys(layer, expected, found)
    bias = ["bias"] if f"{before}bias" in tensors else []
    return {role: before + role for role in (*expected, *bias)}


def _check(layer: str, description: Description, shapes: dict[str, Shape]) -> None:
    """Hold the shapes of a layer's arrays to its description."""
    delta = shapes.get(DELTA, shapes.get(SEPARABLE))
    if delta is None:
        if shapes["weight"][2:] != tuple(description.kernel_size):
            rules.layer_shapes(layer, shapes)
        return
    kind = "separable" if description.kind == "separable" else "over-parameterized"
    roles = {**shapes, "delta": delta}
    spec = stored_layers.spec_of(Stored(layer, kind, {}), roles)
    sizes = (spec.kernel_size, spec.groups, spec.d_mul)
    if sizes != (description.kernel_size, description.groups, description.d_mul):
        rules.layer_shapes(layer, shapes)


def folded(layers: Mapping[str, Description], tensors: Mapping[str, Raw]) -> dict[str, Description]:
    """The description of the plain network whose arrays are in `tensors`."""
    table: dict[str, Description] = {}
    for name, one in layers.items():
        if one.kind != "separable":
            table[name] = Description(one.kind, one.kernel_size, one.groups)
            continue
        before = f"{name}." if name else ""
        features = tensors[f"{before}depthwise.weight"].shape[0]
        channels = features // (one.d_mul or 1)
        ones = (1,) * len(one.kernel_size)
        table[f"{before}depthwise"] = Description("convolution", one.kernel_size, channels)
        table[f"{before}pointwise"] = Description("convolution", ones, one.groups)
    return table
