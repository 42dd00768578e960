"""Loading parameters: what happens where a file has W without D', or a network has no place for D'.

Gluon leaves a parameter as it is if a file lacks it, and does not tell a layer inside a network
that it is being loaded. A plain kernel, loaded beside the D' of earlier training, would silently
become another kernel; and so would a W whose D' is left out by `ignore_extra`. Gluon's two loaders
are therefore wrapped: a W without its D' is refused, and D' is set to zero in each of our layers
that is given a plain kernel.
"""

from __future__ import annotations

import functools
import inspect
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mxnet as mx
from mxnet.gluon import Block, ParameterDict

from do_conv.checkpoints.formats import gluon as params
from do_conv.core import rules
from do_conv.gluon.arrays import as_given, legacy_arrays
from do_conv.gluon.plain import first

_WEIGHT, _DELTA = "weight", "depthwise_delta"

Shapes = Mapping[str, tuple[int, ...]]


def install() -> None:
    """Wrap Gluon's loaders: that of networks, and that of dictionaries of parameters."""
    Block.load_parameters = _completed(
        Block.load_parameters, Block._collect_params_with_prefix, _of_file
    )
    ParameterDict.load_dict = _completed(ParameterDict.load_dict, ParameterDict.items, _of_dict)


def _completed(
    load: Any, named: Callable[[Any], Any], stored: Callable[[Mapping[str, Any]], Shapes]
) -> Any:
    """A loader that never leaves a W with a D' that is not its own.

    Args:
        load: Gluon's loader.
        named: gives its parameters by name.
        stored: gives the shapes of the arrays to load, by the same names, from its arguments.
    """
    signature = inspect.signature(load)

    @functools.wraps(load)
    def completed(self: Any, *args: Any, **kwargs: Any) -> None:
        parameters = dict(named(self))
        _check_together(stored(signature.bind(self, *args, **kwargs).arguments), parameters)
        pairs = list(_pairs(parameters))
        with _recorded(parameter for pair in pairs for parameter in pair) as loaded:
            load(self, *args, **kwargs)
        for weight, delta in pairs:
            if weight in loaded and delta not in loaded:
                _reset(delta, weight)

    return completed


def _of_file(given: Mapping[str, Any]) -> Shapes:
    """The shapes in a file, where Gluon does not itself compare all names."""
    if not (given.get("allow_missing") or given.get("ignore_extra")):
        return {}
    try:
        (state,) = params.read(Path(given["filename"])).states
    except (OSError, ValueError, struct.error):
        return {}  # Gluon reads more, such as addresses, and has its own message
    return {name: array.shape for name, array in state.items()}


def _of_dict(given: Mapping[str, Any]) -> Shapes:
    """The shapes in a dictionary, under the names of the parameters."""
    return {
        given.get("restore_prefix", "") + name.removeprefix("arg:"): tuple(array.shape)
        for name, array in dict(given["param_dict"]).items()
    }


def _check_together(stored: Shapes, parameters: Mapping[str, Any]) -> None:
    """Refuse a stored W whose D' the network has no place for, or that needs a D' and has none."""
    for name, shape in stored.items():
        weight, key = parameters.get(name), name.removesuffix(_WEIGHT) + _DELTA
        if weight is None or not name.endswith(_WEIGHT):
            continue
        delta = parameters.get(key)
        if delta is None:
            rules.loaded_together(name, key, "network", key not in stored)
        elif None in (weight.shape, delta.shape):
            continue  # of an imported symbol, which learns its shapes from the file
        elif shape[2:] == weight.shape[2:] != delta.shape[2:]:
            # A W with more slots than kernel positions is no plain layer's.
            rules.loaded_together(name, key, "checkpoint", key in stored)


def _pairs(parameters: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    """W and D' of each layer, whose names differ in the last word only."""
    for name, parameter in parameters.items():
        weight = parameters.get(name.removesuffix(_DELTA) + _WEIGHT)
        if name.endswith(_DELTA) and weight is not None:
            yield weight, parameter


@contextmanager
def _recorded(parameters: Iterable[Any]) -> Iterator[set[Any]]:
    """The set of those parameters that are given stored values within the context."""
    loaded: set[Any] = set()

    def recording(parameter: Any) -> Any:
        load = parameter._load_init

        def load_and_record(*args: Any, **kwargs: Any) -> None:
            load(*args, **kwargs)
            loaded.add(parameter)

        return load_and_record

    # One loader may call the other: restore the outer one's recording.
    before = {parameter: vars(parameter).get("_load_init") for parameter in parameters}
    for parameter in before:
        parameter._load_init = recording(parameter)
    try:
        yield loaded
    finally:
        for parameter, load in before.items():
            if load is None:
                del parameter._load_init
            else:
                parameter._load_init = load


def _reset(delta: Any, weight: Any) -> None:
    """Set D' to zero, in its own arrays if it has any; otherwise it starts where W is.

    It takes the dtype of W, which may have come with the file.
    """
    if delta.dtype != weight.dtype:
        delta.cast(weight.dtype)
    if delta._data is None:
        delta.initialize(init=mx.init.Zero(), ctx=weight.list_ctx(), force_reinit=True)
        return
    (array,) = legacy_arrays(first(delta))
    delta.set_data(as_given(mx.nd.zeros_like(array)))
