"""Layers made again from the configuration of others."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import keras


def made_like(
    layer: Any, kind: Any, more: Mapping[str, Any] | None = None, without: Iterable[str] = ()
) -> Any:
    """A layer of the class `kind` with a layer's configuration, without variables.

    What a person wrote for the layer, such as an activation or a penalty, is used by both: a
    configuration has of a function only its name, which Keras need not know.

    Args:
        layer: the layer whose configuration is taken.
        kind: the class of the new one.
        more: arguments that the layer does not have.
        without: arguments of the layer's that the new one does not have.

    Returns:
        the new layer.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Keras says of storing a lambda
        config = {k: v for k, v in layer.get_config().items() if k not in without}
    live = {name: getattr(layer, name, None) for name in config}
    own = {name: value for name, value in live.items() if _is_own(value)}
    return kind.from_config({**config, **own, **(more or {})})


def _is_own(value: Any) -> bool:
    """Whether it is a function, or an object that is called, of a person's own."""
    if not callable(value) or isinstance(value, keras.layers.Layer):
        return False
    return not str(getattr(value, "__module__", "")).startswith("keras.")
