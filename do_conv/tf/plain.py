"""The plain layers: their arguments, and layers made like others, with their values."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

import keras
from keras import ops

from do_conv.core import rules


class LayerOptions(TypedDict, total=False):
    """The keywords that every Keras layer takes."""

    name: str | None
    dtype: Any
    trainable: bool
    autocast: bool
    input_shape: Any
    batch_shape: Any
    batch_input_shape: Any
    batch_size: int
    input_dtype: Any
    input_dim: int
    lora_rank: int | None
    lora_alpha: float | None
    dynamic: bool


def lower(word: Any) -> Any:
    """A word in lower case, since Keras takes its words in any; the rules see anything else."""
    return word.lower() if isinstance(word, str) else word


def known_data_format(data_format: Any) -> Any:
    """The order of the axes, or None for Keras's setting."""
    if data_format is None:
        return None
    return rules.choice("data_format", lower(data_format), ("channels_last", "channels_first"))


def configuration(layer: Any, kind: Any) -> dict[str, Any]:
    """A layer's configuration as that of `kind`, a class of which it is one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the warning of Keras for a stored lambda
        return dict(kind.get_config(layer))


def made_like(
    layer: Any, kind: Any, more: Mapping[str, Any] | None = None, without: Iterable[str] = ()
) -> Any:
    """A layer of the class `kind` with a layer's configuration, without variables.

    Both layers use the functions that the user wrote, such as an activation or a penalty: a
    configuration holds only their names, which Keras need not know.

    Args:
        layer: the layer whose configuration is taken.
        kind: the class of the new one.
        more: arguments that the layer does not have.
        without: arguments of the layer's that the new one does not have.

    Returns:
        the new layer.
    """
    config = {k: v for k, v in configuration(layer, type(layer)).items() if k not in without}
    live = {name: getattr(layer, name, None) for name in config}
    own = {name: value for name, value in live.items() if _is_own(value)}
    as_stored, as_held = {**config, **(more or {})}, {**config, **own, **(more or {})}
    if kind.from_config.__module__.startswith("keras."):
        return kind.from_config(as_held)
    try:  # one of the user's own reads what is stored, as when a file is loaded
        return kind.from_config(dict(as_stored))
    except (TypeError, ValueError):  # of a function that Keras does not know by its name
        return kind.from_config(as_held)


def copy_state(old: Any, new: Any) -> None:
    """Give a layer, and all it holds, the values of the layer it was made from."""
    pairs = zip(old.variables, new.variables, strict=True)
    for variable, copy in pairs:
        copy.assign(ops.convert_to_numpy(variable))
        if copy.trainable != variable.trainable:
            copy.trainable = variable.trainable
    for layer, copy in zip(old._flatten_layers(), new._flatten_layers(), strict=True):
        if hasattr(layer, "finalize_state"):
            copy.finalize_state()  # `Normalization` derives values from its variables
        if hasattr(layer, "save_assets"):
            with tempfile.TemporaryDirectory() as folder:  # a vocabulary is not a variable
                layer.save_assets(folder)
                copy.load_assets(folder)


def _is_own(value: Any) -> bool:
    """Whether a value is a function, or an object that is called, of the user's own."""
    if not callable(value) or isinstance(value, keras.layers.Layer):
        return False
    return not str(getattr(value, "__module__", "")).startswith("keras.")
