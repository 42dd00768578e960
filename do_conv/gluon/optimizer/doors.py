"""From W and D' in a trainer to W and D' in layers, and back, in the middle of training."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mxnet import gluon
from mxnet.gluon import SymbolBlock

from do_conv.adapter import DELTA
from do_conv.core.errors import broken
from do_conv.gluon.base import Composed, OverParameterized
from do_conv.gluon.models.classes import class_for
from do_conv.gluon.models.copies import copied
from do_conv.gluon.models.folding import fold
from do_conv.gluon.models.planning import described
from do_conv.gluon.models.structure import holders, named_layers
from do_conv.gluon.optimizer.kernels import TrainedKernel
from do_conv.gluon.plain import first, wait_for_parameters
from do_conv.gluon.starts import DeltaStart
from do_conv.models import checks
from do_conv.models.sharing import composed_kernels, readers

_OPTIONS = ("grad_req", "lr_mult", "wd_mult")


def with_layers(net: Any, kernels: Mapping[Any, TrainedKernel]) -> Any:
    """A copy of a network in which DO-Conv layers hold the W and D' of its kernels.

    Raises:
        DOConvError: if a kernel is inside of a graph, in a precision of its own, or one of a layer
            that `convert` leaves.
    """
    read_by = readers(holders(net))
    left = {id(one.weight): one.reason for one in described(net).convolutions if one.reason}
    for parameter, kernel in kernels.items():
        why, dtype = None, np.dtype(parameter.dtype)
        if np.dtype(kernel.weight.dtype) != dtype:
            why = f"in {dtype}"
        elif any(isinstance(layer, SymbolBlock) for layer in read_by[id(parameter)]):
            why = "inside of a graph"
        elif id(parameter) in left:
            why = f"because {left[id(parameter)]}"
        checks.kernel_for_a_layer(kernel.name, why, "trainer")
    converted, copy_of = copied(net)
    for parameter, kernel in kernels.items():
        _move(kernel, [copy_of[id(layer)] for layer in read_by[id(parameter)]])
    return converted


def _move(kernel: TrainedKernel, layers: list[Any]) -> None:
    """Give W and D' of a kernel to copies of the layers that hold it."""
    spec, start = kernel.spec, kernel.depthwise_init
    for layer in layers:
        layer.__class__ = class_for(type(layer))
        layer._spec, layer.composition, layer.depthwise_init = spec, "kernel", start
    weight = layers[0].weight
    new = DeltaStart(start, spec.kernel_size, spec.d_mul)
    delta = layers[0]._parameter(DELTA, spec.delta_shape, new)
    delta.cast(weight.dtype)
    for name in _OPTIONS:
        setattr(delta, name, getattr(weight, name))
    # Gluon accepts only a shape that is compatible with the old one.
    weight._shape = spec.weight_shape
    for parameter, value in ((weight, kernel.weight), (delta, kernel.delta)):
        parameter._init_impl(first(value), weight.list_ctx())
    for layer in layers:
        layer.params.update({delta.name: delta})
        layer.depthwise_delta = delta


def without_layers(net: Any, trainer: Any) -> tuple[Any, dict[Any, TrainedKernel]]:
    """The folded copy of a network, and its kernels with the W and D' of the layers.

    Raises:
        DOConvError: if a layer, or the trainer, breaks a rule.
    """
    own = list(net.collect_params().values())
    if {*map(id, trainer._params)} != {*map(id, own)}:
        raise broken(
            "a trainer that is to go on without layers must be one of all parameters of the "
            "network",
            f"one of {len(trainer._params)} parameters, for a network of {len(own)}",
            "make it from net.collect_params()",
        )
    held = dict(_held(net))
    if not held:
        raise broken(
            "a network that is to go on without layers must have a layer with W and D'",
            f"a {type(net).__name__} without one",
            "make a DOConvTrainer for a plain network",
        )
    folded = fold(net, check_finite=False)
    plain = dict(named_layers(folded))
    kernels = {}
    for name, layer in held.items():
        values = first(layer.weight), first(layer.depthwise_delta)
        weight = plain[name].weight
        kernel = TrainedKernel(weight, name, layer.spec, layer.depthwise_init, values)
        kernels[weight] = kernel
    return folded, kernels


def _held(net: Any) -> Iterator[tuple[str, Any]]:
    """The DO-Conv layers, each with its name; one of those that share W and D'.

    Raises:
        DOConvError: if one cannot go on as a plain kernel.
    """
    names = {id(layer): name for name, layer in named_layers(net)}
    ours = [layer for _, layer in named_layers(net) if isinstance(layer, Composed)]
    wait_for_parameters(*ours)
    for layer in ours:
        has_parts, kind = isinstance(layer, OverParameterized), type(layer).__name__
        checks.layer_with_parts(has_parts, names[id(layer)], kind, "network", "DOConvTrainer")
    for (layer, *_), may_change in composed_kernels(ours, holders(net)):
        name = names[id(layer)]
        checks.delta_shared_with_weight(may_change, name)
        options = [[getattr(part, option) for option in _OPTIONS] for part in _parts(layer)]
        if options[0] != options[1]:
            raise broken(
                "W and D' of a layer must have the same grad_req, lr_mult and wd_mult",
                f"{options[0]} and {options[1]} in layer '{name}'",
                "set them alike, or go on with layers",
            )
        yield name, layer


def _parts(layer: Any) -> tuple[Any, Any]:
    return layer.weight, layer.depthwise_delta


def options_of(trainer: Any) -> dict[str, Any]:
    """The arguments with which another trainer is made like this one.

    The optimizer is a copy: a trainer gives it the parameters that it has.
    """
    optimizer = copy.deepcopy(trainer._optimizer)
    optimizer.rescale_grad = trainer._scale  # the last step has divided it by the batch size
    store = trainer._kvstore_params["kvstore"]
    return {
        "optimizer": optimizer,
        # A store that is given as an object knows the other trainer's parameters already.
        "kvstore": getattr(store, "type", store),
        "compression_params": trainer._compression_params,
    }


def carry_states(source: Any, target: Any) -> None:
    """Give a trainer the states of another, whose parameters have the same numbers."""
    with tempfile.TemporaryDirectory() as directory:
        path = str(Path(directory) / "states")
        gluon.Trainer.save_states(source, path)
        gluon.Trainer.load_states(target, path)
