"""How a model is made of layers."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Collection, Iterator
from typing import Any

import keras

from do_conv.core.errors import broken
from do_conv.models import checks


def check_model(model: Any) -> None:
    """Refuse anything but a model or a layer, such as a list of weights.

    Raises:
        DOConvError: if it is neither.
    """
    is_layer = isinstance(model, keras.layers.Layer)
    checks.model_kind(is_layer, "Keras model or layer", type(model).__name__)


def check_known(model: Any, remedy: str) -> None:
    """Refuse a subclassed model: only its own code knows how its layers are called.

    Raises:
        DOConvError: if it is subclassed.
    """
    if isinstance(model, keras.Model) and not is_remade(model):
        raise broken(
            "a whole model must be a Functional or Sequential model, whose layers are known",
            f"a {type(model).__name__}, a class with code of its own",
            remedy,
        )


def is_remade(layer: Any) -> bool:
    """Whether a layer holds others and is made again around their successors."""
    if isinstance(layer, keras.Function):
        # Only such a subclass is made from the graph alone.
        arguments = inspect.getfullargspec(type(layer).__init__).args
        return arguments == ["self", "inputs", "outputs", "name"]
    return type(layer) in (keras.Sequential, keras.layers.TimeDistributed)


def children(layer: Any) -> list[Any]:
    """The layers a layer holds, in its order."""
    if isinstance(layer, (keras.Function, keras.Sequential)):
        return list(layer.layers)
    return list(layer._flatten_layers(include_self=False, recursive=False))


@contextlib.contextmanager
def restored(methods: Collection[tuple[Any, str]]) -> Iterator[None]:
    """Put methods of layers, each with its name, back as they were: a user may have set one."""
    before = [vars(layer).get(name) for layer, name in methods]
    try:
        yield
    finally:
        for (layer, name), method in zip(methods, before, strict=True):
            if method is None:
                delattr(layer, name)
            else:
                setattr(layer, name, method)


def named_layers(layer: Any, name: str = "", owner: Any = None) -> Iterator[tuple[str, Any, Any]]:
    """Each layer with its name, `block/conv`, and the outermost owner that is not remade, or None.

    A layer that stands in several places comes several times.
    """
    yield name, layer, owner
    if owner is None and not is_remade(layer):
        owner = layer
    for child in children(layer):
        yield from named_layers(child, f"{name}/{child.name}" if name else child.name, owner)
