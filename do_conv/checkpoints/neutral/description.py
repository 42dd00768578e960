"""The description of a layer in a neutral file, and the arrays that such a layer has."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from do_conv.adapter import CONVOLUTIONS, DELTA, SEPARABLE, Description, array_name
from do_conv.checkpoints import checks
from do_conv.checkpoints import layers as stored_layers
from do_conv.checkpoints.formats.safetensors import Raw
from do_conv.checkpoints.layers import Stored
from do_conv.core.spec import Shape

FORMAT, VERSION = "do_conv", "1"
_OF_NORMALIZATION = ("weight", "bias", "running_mean", "running_var")


def roles(description: Description, arrays: Mapping[str, Any], layer: str) -> list[str]:
    """The names of a described layer's arrays, given the arrays that a file or model has.

    Raises:
        DOConvError: if one is missing, or one is there that such a layer does not have.
    """
    if description.kind == "normalization":
        return [role for role in _OF_NORMALIZATION if role in arrays]
    if description.kind == "prelu":
        checks.layer_keys(layer, ["weight"], list(arrays))
        return ["weight"]
    expected = ["weight"]
    if description.kind == "separable":
        expected.append(SEPARABLE)
    elif description.d_mul is not None and math.prod(description.kernel_size) > 1:
        expected.append(DELTA)
    checks.layer_keys(layer, expected, [r for r in ("weight", DELTA, SEPARABLE) if r in arrays])
    return [*expected, *(["bias"] if "bias" in arrays else [])]


def check(description: Description, layer: str, shapes: Mapping[str, Shape]) -> None:
    """Compare the shapes of a layer's arrays with its description.

    Raises:
        DOConvError: if they do not fit.
    """
    if description.kind == "normalization":
        fits = all(len(shape) == 1 for shape in shapes.values()) and len({*shapes.values()}) < 2
    elif description.kind == "prelu":
        fits = len(shapes["weight"]) == 1
    elif description.kind == "dense":
        outputs = shapes["weight"][:1]
        fits = len(shapes["weight"]) == 2 and shapes.get("bias", outputs) == outputs
    elif DELTA in shapes or SEPARABLE in shapes:
        fits = _fits_composed(description, layer, shapes)
    else:
        fits = shapes["weight"][2:] == tuple(description.kernel_size)
    if not fits:
        checks.layer_shapes(layer, shapes)


def _fits_composed(description: Description, layer: str, shapes: Mapping[str, Shape]) -> bool:
    kind = "separable" if description.kind == "separable" else "over-parameterized"
    roles = {**shapes, "delta": shapes[SEPARABLE if SEPARABLE in shapes else DELTA]}
    spec = stored_layers.spec_of(Stored(layer, kind, {}), roles)
    return (spec.kernel_size, spec.groups, spec.d_mul) == (
        description.kernel_size, description.groups, description.d_mul,
    )  # fmt: skip


def members(description: Description) -> dict[str, Any]:
    """The members that differ from the defaults, for its JSON."""
    default = Description(description.kind, description.kernel_size)
    return {
        name: value
        for name, value in vars(description).items()
        if name == "kind" or value != (() if name == "kernel_size" else vars(default)[name])
    }


def metadata(layers: Mapping[str, Description]) -> dict[str, str]:
    """The metadata of a file with these layers."""
    table = {name: members(description) for name, description in layers.items()}
    return {"format": FORMAT, "version": VERSION, "layers": json.dumps(table)}


def is_neutral(metadata: Any) -> bool:
    """True if a file's metadata is that of a neutral file, of any version."""
    return isinstance(metadata, dict) and metadata.get("format") == FORMAT


def described(metadata: Any, path: str) -> dict[str, Description]:
    """The layers that metadata describes.

    Raises:
        DOConvError: if it is not the metadata of a neutral file of a known version.
    """
    if not is_neutral(metadata) or metadata.get("version") != VERSION:
        checks.neutral_file(path, _shown(metadata))
    try:
        table = json.loads(metadata["layers"])
        return {name: Description(**members) for name, members in table.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        checks.neutral_file(path, "layers that are not such a description")


def _shown(metadata: Any) -> str:
    if not isinstance(metadata, dict):
        return "no metadata"
    return f"format {metadata.get('format')!r} and version {metadata.get('version')!r}"


def folded(layers: Mapping[str, Description], tensors: Mapping[str, Raw]) -> dict[str, Description]:
    """The description of the plain network whose arrays are in `tensors`."""
    table: dict[str, Description] = {}
    for name, layer in layers.items():
        if layer.kind == "separable":
            features = tensors[array_name(name, "depthwise.weight")].shape[0]
            channels = features // (layer.d_mul or 1)
            table |= pair(name, layer, channels)
        elif layer.kind in CONVOLUTIONS:
            table[name] = Description(layer.kind, layer.kernel_size, layer.groups)
        else:
            table[name] = layer
    return table


def pair(name: str, separable: Description, channels: int) -> dict[str, Description]:
    """The two plain layers of a separable one with `channels` input channels."""
    ones = (1,) * len(separable.kernel_size)
    return {
        array_name(name, "depthwise"): Description("convolution", separable.kernel_size, channels),
        array_name(name, "pointwise"): Description("convolution", ones, separable.groups),
    }
