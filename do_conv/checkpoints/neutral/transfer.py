"""Transferring weights from one live model to another, of the same framework or not.

Data flows one way: the layers of a model, a neutral file, the layers of another model. A layer that
is over-parameterized in one model and plain in the other is composed, or given the identity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from do_conv import frameworks
from do_conv.adapter import DELTA, Description, LayerArray, ModelLayer, array_name
from do_conv.checkpoints import checks, neutral
from do_conv.checkpoints.formats.safetensors import NAMES, Raw
from do_conv.checkpoints.neutral.description import pair
from do_conv.core import rules
from do_conv.core.composition import compose
from do_conv.core.errors import broken
from do_conv.core.spec import Shape, Spec
from do_conv.core.starts import fill_from_kernel

Match = str | Mapping[str, str]
Shown = Callable[[Mapping[str, np.ndarray]], dict[str, Shape]]


def save(model: Any, path: str | Path) -> None:
    """Write a model's weights to a neutral file, for a model of any of the frameworks.

    Args:
        model: a PyTorch module, Keras model or layer, or Gluon block, with over-parameterized
            layers or without; or a `DOConvOptimizer` or `DOConvTrainer`, for its network with W and
            D' in the place of its kernels.
        path: a name that ends in `.safetensors`.

    Raises:
        DOConvError: if a layer has no parameters yet, the file cannot be written, or a Keras
            optimizer has not been built or has no model.
        MissingFrameworkError: if safetensors is not installed.
    """
    layers = layers_of(model)
    described = {layer.name: layer.description for layer in layers if layer.description is not None}
    tensors = {
        array_name(layer.name, role): _raw(array, layer.name)
        for layer in layers
        for role, array in layer.arrays.items()
    }
    neutral.write(path, neutral.Neutral(tensors, described))


def _raw(array: LayerArray, layer: str) -> Raw:
    """An array as a file holds it.

    Raises:
        DOConvError: if the format has no such numbers.
    """
    if array.dtype not in NAMES:
        raise broken(
            f"a neutral checkpoint must hold numbers of {', '.join(NAMES)}",
            f"layer '{layer}' with {array.dtype}",
            "convert the model, or save it with its framework",
        )
    return Raw.of(array.read(), NAMES[array.dtype])


def load(model: Any, path: str | Path, *, match: Match = "name") -> dict[str, str]:
    """Load the weights of a neutral file into a model, which then gives the saved model's outputs.

    A plain layer takes the kernel that an over-parameterized one composes; an over-parameterized
    one takes a plain layer's kernel and the identity. The model keeps all that the file does not
    hold: strides, padding, activations, and the order in which a dense layer sees the channels
    and positions of what is flattened before it.

    Args:
        model: a PyTorch module, Keras model or layer, or Gluon block, whose layers have parameters;
            or a `DOConvOptimizer` or `DOConvTrainer`, which takes W and D' and writes W' into its
            network; a Keras optimizer must have been built.
        path: a neutral file.
        match: "name" pairs layers of the same name; "order" pairs them in the order they have in
            both models, and refuses a pair of different kinds or shapes; a dict has the model's
            name for a name in the file, where they are not the same.

    Returns:
        for the name of each layer in the file, that in the model.

    Raises:
        DOConvError: if layers do not pair up, or do not fit; then the model is as it was.
        MissingFrameworkError: if safetensors is not installed.
    """
    held, layers = neutral.read(path), layers_of(model)
    stored = _split(_stored(held), {layer.name for layer in layers})
    ours = {layer.name: layer for layer in layers if layer.description is not None}
    pairs = _pairs(stored, ours, match)
    writes = [
        (ours[name].arrays[role], array)
        for layer, name in pairs.items()
        for role, array in fitted(stored[layer], layer, ours[name]).items()
    ]
    writes += _others(held, layers, match)
    for own, array in writes:
        own.write(array)
    return pairs


def layers_of(model: Any) -> list[ModelLayer]:
    """A model's layers, by the adapter of its framework."""
    return list(frameworks.adapter(frameworks.of(model)).model_layers(model))


@dataclass(frozen=True)
class StoredLayer:
    """A layer of a file."""

    description: Description
    arrays: dict[str, np.ndarray]


def _stored(held: neutral.Neutral) -> dict[str, StoredLayer]:
    return {
        name: StoredLayer(description, held.arrays(name))
        for name, description in held.layers.items()
    }


def _split(stored: dict[str, StoredLayer], names: set[str]) -> dict[str, StoredLayer]:
    """The layers of a file; a separable one is two where the model has its two plain layers."""
    split: dict[str, StoredLayer] = {}
    for name, layer in stored.items():
        if layer.description.kind != "separable" or array_name(name, "depthwise") not in names:
            split[name] = layer
            continue
        depthwise, weight = layer.arrays["depthwise_weight"], layer.arrays["weight"]
        channels, slots, *size = depthwise.shape
        first, second = pair(name, layer.description, channels).items()
        kernel = depthwise.reshape(channels * slots, 1, *size)
        split[first[0]] = StoredLayer(first[1], {"weight": kernel})
        outputs, group_channels, _ = weight.shape
        pointwise = weight.reshape(outputs, group_channels * slots, *second[1].kernel_size)
        bias = {role: array for role, array in layer.arrays.items() if role == "bias"}
        split[second[0]] = StoredLayer(second[1], {"weight": pointwise, **bias})
    return split


def _pairs(
    stored: Mapping[str, StoredLayer], ours: Mapping[str, ModelLayer], match: Match
) -> dict[str, str]:
    """The model's name for each layer of the file."""
    if match == "order":
        remedy = "load a part of the model, or leave match out"
        checks.as_many_layers(len(stored), len(ours), remedy)
        return dict(zip(stored, ours, strict=True))
    names = {} if isinstance(match, str) else match
    if isinstance(match, str):
        rules.choice("match", match, ("name", "order"))
    for here, there in names.items():
        rules.known_name("layer of the file", here, sorted(stored))
        rules.known_name("layer of the model", there, sorted(ours))
    pairs = {name: names.get(name, name) for name in stored}
    checks.paired_names(
        [layer for layer in stored if pairs[layer] not in ours],
        [layer for layer in ours if layer not in pairs.values()],
    )
    return pairs


def fitted(
    stored: StoredLayer, name: str, layer: ModelLayer, shown: Shown | None = None
) -> dict[str, np.ndarray]:
    """The arrays of a file's layer, as a layer of the model takes them.

    Args:
        stored: the file's layer.
        name: its name.
        layer: the model's.
        shown: gives the shapes of the file's arrays, fitted, for a message with the names and axes
            of a framework; without it they are the core's.
    """
    theirs, own = stored.description, layer.description
    assert own is not None
    for member in ("kind", "kernel_size", "groups", "epsilon"):
        there, here = getattr(theirs, member), getattr(own, member)
        checks.same_layer(name, layer.name, member, there, here, there == here)
    arrays = dict(stored.arrays)
    if DELTA in arrays and DELTA not in layer.arrays:
        spec = Spec.of_shapes(arrays["weight"].shape, arrays[DELTA].shape, theirs.groups)
        weight, delta = (arrays.pop(role).astype("float64") for role in ("weight", DELTA))
        arrays = {"weight": compose(weight, delta, groups=spec.groups), **arrays}
    elif DELTA in layer.arrays and DELTA not in arrays:
        arrays |= _identity(arrays["weight"], layer, own)
    for role in {*arrays} | {*layer.arrays}:
        _fill(arrays, role, layer, theirs)
    there = {role: array.shape for role, array in arrays.items()}
    here = {role: own.shape for role, own in layer.arrays.items()}
    fits = there == here
    if shown is not None:
        there, here = shown(arrays), layer.own_shapes()
    checks.same_layer(name, layer.name, "arrays", there, here, fits)
    return arrays


def _identity(kernel: np.ndarray, layer: ModelLayer, own: Description) -> dict[str, np.ndarray]:
    """W and D' = 0 that compose to a kernel, for a layer of the model."""
    weight, delta = layer.arrays["weight"], layer.arrays[DELTA]
    spec = Spec.of_shapes(weight.shape, delta.shape, own.groups)
    zeros = np.zeros(delta.shape)
    if spec.has_plain_weight or kernel.shape[:2] != weight.shape[:2]:
        return {"weight": kernel, DELTA: zeros}
    slots = weight.read()
    fill_from_kernel(slots, kernel, spec)
    return {"weight": slots, DELTA: zeros}


def _fill(
    arrays: dict[str, np.ndarray], role: str, layer: ModelLayer, description: Description
) -> None:
    """Add an array that only the model's layer has, or leave out one that only the file has.

    Both are possible where the layer does the same without it, as with a bias of zeros.
    """
    absent = {"bias": 0.0}
    if description.kind == "normalization":
        absent["weight"] = 1.0
    if role not in absent or (role in arrays) == (role in layer.arrays):
        return
    if role in layer.arrays:
        arrays[role] = np.full(layer.arrays[role].shape, absent[role])
    elif bool((arrays[role] == absent[role]).all()):
        del arrays[role]


def _others(
    held: neutral.Neutral, layers: list[ModelLayer], match: Match
) -> Iterator[tuple[LayerArray, np.ndarray]]:
    """The arrays of layers that only one framework has, by name."""
    names = {} if isinstance(match, str) else match
    own = {
        array_name(layer.name, role): array
        for layer in layers
        if layer.description is None
        for role, array in layer.arrays.items()
    }
    stored: dict[str, Raw] = {}
    for key, raw in held.others().items():
        name, _, role = key.rpartition(".")
        stored[array_name(names.get(name, name), role)] = raw
    checks.paired_names(
        [key for key in stored if key not in own], [key for key in own if key not in stored]
    )
    for key, raw in stored.items():
        rules.known_name(f"dtype of '{key}'", raw.dtype, NAMES.values())
        here = own[key].shape
        checks.same_layer(key, key, "shape", raw.shape, here, raw.shape == here)
        yield own[key], raw.numbers()
