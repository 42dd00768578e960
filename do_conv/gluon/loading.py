"""Loading parameters: a file that has W and no D' sets D to the identity.

Gluon leaves a parameter as it is if a file lacks it, and does not tell a layer inside a network
that it is being loaded. A plain kernel, loaded beside the D' of earlier training, would silently
become another kernel. Gluon's two loaders are therefore wrapped: they do what they always did, and
then D' is set to zero in each of our layers whose W was loaded alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import mxnet as mx
from mxnet.gluon import Block, ParameterDict

from do_conv.gluon.arrays import as_given, legacy_arrays
from do_conv.gluon.plain import first

_WEIGHT, _DELTA = "weight", "depthwise_delta"


def install() -> None:
    """Wrap Gluon's loaders: that of networks, and that of dictionaries of parameters."""
    Block.load_parameters = _completed(Block.load_parameters, Block._collect_params_with_prefix)
    ParameterDict.load_dict = _completed(ParameterDict.load_dict, ParameterDict.items)


def _completed(load: Any, named: Callable[[Any], Any]) -> Any:
    """A loader that resets D' where it loads W alone; `named` gives its parameters by name."""

    @functools.wraps(load)
    def completed(self: Any, *args: Any, **kwargs: Any) -> None:
        pairs = list(_pairs(dict(named(self))))
        with _recorded(parameter for pair in pairs for parameter in pair) as loaded:
            load(self, *args, **kwargs)
        for weight, delta in pairs:
            if weight in loaded and delta not in loaded:
                _reset(delta, weight.list_ctx())

    return completed


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


def _reset(delta: Any, contexts: list[Any]) -> None:
    """Set D' to zero, in its own arrays if it has any; otherwise it starts there."""
    if delta._data is None:
        delta.initialize(init=mx.init.Zero(), ctx=contexts, force_reinit=True)
        return
    (array,) = legacy_arrays(first(delta))
    delta.set_data(as_given(mx.nd.zeros_like(array)))
