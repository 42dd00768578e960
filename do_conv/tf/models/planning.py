"""The plan of a conversion: which layers become ours, which are left and why, and the cost."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any

import keras

from do_conv.core import rules
from do_conv.core.errors import broken
from do_conv.core.rules import CompositionName, Door
from do_conv.core.spec import Shape
from do_conv.models import reasons
from do_conv.models.choices import Where
from do_conv.models.decisions import Convolution, Description, DMul, planned
from do_conv.models.plan import Plan
from do_conv.tf.composed import Composed
from do_conv.tf.models.classes import (
    CONVOLUTIONS,
    class_for,
    input_channels,
    is_transposed,
    spec_of,
)
from do_conv.tf.models.structure import check_model, named_layers, restored


def plan(
    model: Any,
    *,
    input_shape: tuple[Any, ...] | None = None,
    where: Where = None,
    d_mul: DMul = None,
    composition: CompositionName = "kernel",
    door: Door = "layers",
) -> Plan:
    """Plan training with these options; `str` of the plan is a table.

    Args:
        model: a model or a layer; a subclassed model cannot be converted, but it can be trained
            with W and D' in the optimizer.
        input_shape: of the batch to count multiply-accumulates for, with its axes in the model's
            own order, such as `(1, 224, 224, 3)`; for several inputs a list or dict of shapes.
            Without it the shape the model was made for is taken. A batch that is open (None) is one
            of 1; where another size is open they are not counted. Nothing is computed: Keras infers
            the shapes. A subclassed model must have been built. A layer inside `TimeDistributed` is
            counted for one step, of a separable layer the depthwise part, and a layer without
            variables not at all.
        where, d_mul, composition: as for `convert`.
        door: "layers" for W and D' in layers, as `convert` makes them, or "optimizer" for W and D'
            in a `DOConvOptimizer`.

    Raises:
        DOConvError: if an option breaks a rule, or the input has other channels than the model's.
    """
    check_model(model)
    shape = _closed(_made_for(model) if input_shape is None else input_shape)
    positions = {} if shape is None else _positions(model, shape)
    batch = 1 if shape is None else keras.tree.flatten(shape)[0]
    found = described(model) if rules.door(door) == "layers" else described_in_place(model)
    return planned(found, where, d_mul, composition, positions, batch, door)


def described(model: Any) -> Description:
    """A model's convolutions, each once, and its parameters."""
    return Description(list(_convolutions(model)), _count(model))


def described_in_place(model: Any) -> Description:
    """`described` where the layers stay: a class with a forward pass of its own is no hindrance."""
    return Description(list(_in_place(model)), _count(model))


def _in_place(model: Any) -> Iterator[Convolution]:
    normalised = (keras.layers.SpectralNormalization,)
    owners = [one for one in model._flatten_layers() if isinstance(one, normalised)]
    computed = {id(one) for owner in owners for one in owner._flatten_layers()}
    seen: set[int] = set()
    for name, layer, _ in named_layers(model):
        if isinstance(layer, CONVOLUTIONS) and id(layer) not in seen:
            seen.add(id(layer))
            is_ours = isinstance(layer, Composed)
            reason = _reason_for_kernel(layer, id(layer) in computed)
            yield Convolution(
                name,
                layer,
                # A Keras optimizer has no variables of what is frozen when it is built.
                reason or (None if layer.trainable else reasons.FROZEN),
                _count(layer),
                spec_of=None if is_ours else functools.partial(spec_of, layer),
                becomes=type(layer),
            )


def _convolutions(model: Any) -> Iterator[Convolution]:
    seen: set[int] = set()
    for name, layer, owner in named_layers(model):
        if isinstance(layer, CONVOLUTIONS) and id(layer) not in seen:
            seen.add(id(layer))
            reason = _reason(layer, owner)
            yield Convolution(
                name,
                layer,
                reason,
                _count(layer),
                spec_of=None if isinstance(layer, Composed) else functools.partial(spec_of, layer),
                becomes=None if reason else class_for(type(layer)),
                # Keras has no grouped transposed convolution, which feature composition would need.
                kernel_only=is_transposed(layer),
            )


def _reason(layer: Any, owner: Any) -> str | None:
    """Why a convolution has to be left, or None."""
    is_computed = isinstance(owner, keras.layers.SpectralNormalization)
    table = (
        (owner is not None, reasons.owned_by(type(owner).__name__)),
        (type(layer) not in CONVOLUTIONS, reasons.OTHER_CLASS),
        (class_for(type(layer)) is None, reasons.NO_SUCH_CLASS),
    )
    return _reason_for_kernel(layer, is_computed) or _first(table)


def _reason_for_kernel(layer: Any, is_computed: bool) -> str | None:
    """Why the kernel of a convolution cannot have a D', or None."""
    is_computed = is_computed or getattr(layer, "lora_enabled", False)
    table = (
        (isinstance(layer, Composed), reasons.HAS_DEPTHWISE),
        (is_computed, reasons.COMPUTED_WEIGHT),
        (math.prod(layer.kernel_size) == 1, reasons.ONE_POSITION),
        (layer.quantization_mode is not None, reasons.QUANTISED),
    )
    return _first(table)


def _first(table: Iterable[tuple[bool, str]]) -> str | None:
    """The first reason that holds."""
    return next((reason for holds, reason in table if holds), None)


def _count(layer: Any) -> int:
    return sum(math.prod(variable.shape) for variable in layer.weights)


def in_own_order(model: Any, shape: Shape) -> Shape:
    """The shape `(N, C, *size)` of a batch with its axes in the order the model's layers have."""
    formats = (getattr(layer, "data_format", None) for _, layer, _ in named_layers(model))
    order = next(filter(None, formats), keras.config.image_data_format())
    batch, channels, *size = shape
    return shape if order == "channels_first" else (batch, *size, channels)


def _made_for(model: Any) -> Any:
    """The shape of the batch that a model was made for, or None if it was made for none."""
    try:
        made_for = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    except AttributeError:  # It has seen no symbolic input.
        return None
    return keras.tree.map_structure(lambda x: x.shape, made_for)


def _closed(shapes: Any) -> Any:
    """Shapes with a batch of one where that is open, or None where a size is."""
    if shapes is None:
        return None
    closed = keras.tree.map_shape_structure(lambda shape: (shape[0] or 1, *shape[1:]), shapes)
    return None if None in keras.tree.flatten(closed) else closed


def _with_another_batch(model: Any, input_shape: Any) -> Any:
    """The input shapes, with a larger batch if a model inside was made for the given one.

    For the shapes it was made for, Keras gives the output shape that it has recorded, and asks no
    layer.
    """
    layers = [layer for _, layer, _ in named_layers(model)]
    inputs = (x for layer in layers for x in getattr(layer, "inputs", None) or ())
    recorded = {x.shape[0] for x in inputs}
    given = keras.tree.flatten(input_shape)[0]
    batch = next(number for number in itertools.count(given or 1) if number not in recorded)
    return keras.tree.map_shape_structure(lambda shape: (batch, *shape[1:]), input_shape)


def _positions(model: Any, input_shape: Any) -> dict[int, list[Shape]]:
    """The spatial size of each convolution's output, of a transposed layer's input, by its `id`."""
    sizes: dict[int, list[Shape]] = {}
    layers = [layer for _, layer, _ in named_layers(model)]
    convolutions = {id(layer): layer for layer in layers if isinstance(layer, CONVOLUTIONS)}

    def keep(layer: Any, name: str) -> None:
        method, channels = getattr(layer, name), input_channels(layer)
        rank, last = len(layer.kernel_size), layer.data_format == "channels_last"

        @functools.wraps(method)
        def recorded(*args: Any, **options: Any) -> Any:
            given = [*args, *options.values()][0]
            inputs = getattr(given, "shape", given)
            if channels is not None:
                rules.input_shape(inputs, rank, channels, channels_last=last)
            out = method(*args, **options)
            shape = inputs if is_transposed(layer) else getattr(out, "shape", out)
            size = tuple(shape[1:-1] if last else shape[2:])
            sizes.setdefault(id(layer), []).append(size)
            return out

        setattr(layer, name, recorded)

    hooks = [*itertools.product(convolutions.values(), ("compute_output_shape", "call"))]
    with restored(hooks):
        for layer, name in hooks:
            keep(layer, name)
        _infer(model, _with_another_batch(model, input_shape))
    return sizes


def _infer(model: Any, input_shape: Any) -> None:
    """Let Keras infer the shapes inside of a model.

    Raises:
        DOConvError: if it is a subclassed model with layers that are not built.
    """
    try:
        model.compute_output_shape(input_shape)
    except NotImplementedError:  # only the code of a subclassed model says what follows what
        if not all(layer.built for layer in model._flatten_layers()):
            raise broken(
                "a subclassed model to count multiply-accumulates of must have its variables",
                f"'{model.name}', of which a layer has none",
                "call it on a batch first, or leave input_shape out",
            ) from None
        model(keras.tree.map_shape_structure(keras.KerasTensor, input_shape))
