"""The layers of an older Keras file, `.h5`, which lists them in the model's order."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from do_conv.core.errors import broken

# `model.save` puts the weights here, and `save_weights` at the top.
_ROOT = "model_weights"
_DEPTHWISE, _POINTWISE = "depthwise_kernel", "pointwise_kernel"


def stored_layers(
    groups: Mapping[str, Mapping[str, Any]], paths: Collection[str], file: str
) -> dict[str, dict[str, str]]:
    """For each layer the paths of its arrays, by their names in its class.

    A separable layer is two, as `do_conv.adapter.ModelLayer` has it.

    Args:
        groups: the attributes of all groups, each a value with its shape and type, by their paths.
        paths: the paths of all arrays.
        file: the file's name, for a message.

    Raises:
        DOConvError: if the file does not list its layers, or lists an array that it does not hold.
    """
    root = _ROOT if _ROOT in groups else ""
    if "layer_names" not in groups.get(root, {}):
        raise broken(
            "a Keras file to load into a network must list its layers, as Keras 2 wrote them to a "
            ".h5 file",
            f"{file} without layer_names",
            "load it by load_weights into a model with the layers of do_conv.tf.authors, or import "
            "it into another file",
        )
    layers: dict[str, dict[str, str]] = {}
    for layer in _texts(groups[root]["layer_names"]):
        group = "/".join(filter(None, [root, layer]))
        for name in _texts(groups.get(group, {}).get("weight_names", ((),))):
            path = f"{group}/{name}"
            if path not in paths:
                raise broken(
                    "a Keras file must hold every array that it lists",
                    f"{file} without {path}",
                    "save or copy it again",
                )
            before, _, own = path.rpartition("/")
            layers.setdefault(before, {})[own.removesuffix(":0")] = path
    split: dict[str, dict[str, str]] = {}
    for name, arrays in layers.items():
        if {_DEPTHWISE, _POINTWISE} <= arrays.keys():
            split[f"{name}/depthwise"] = {_DEPTHWISE: arrays.pop(_DEPTHWISE)}
        split[name] = arrays
    return split


def _texts(attribute: tuple[Any, ...]) -> list[str]:
    return [name.decode() if isinstance(name, bytes) else str(name) for name in attribute[0]]
