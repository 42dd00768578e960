"""What could be converted, what is left and why, and what it costs."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import keras

from do_conv.core import rules
from do_conv.core.choices import Choice, Where, chosen
from do_conv.core.plan import Plan, Row
from do_conv.core.spec import Shape, Spec
from do_conv.tf.composed import Composed
from do_conv.tf.depthwise import DODepthwiseConv2D
from do_conv.tf.layers import DOConv1D, DOConv2D, DOConv3D
from do_conv.tf.models.cloning import named_layers
from do_conv.tf.separable_delta import DOSeparableConv1D, DOSeparableConv2D
from do_conv.tf.transposed import DOConv1DTranspose, DOConv2DTranspose, DOConv3DTranspose

_TRANSPOSED: dict[Any, Any] = {
    keras.layers.Conv1DTranspose: DOConv1DTranspose,
    keras.layers.Conv2DTranspose: DOConv2DTranspose,
    keras.layers.Conv3DTranspose: DOConv3DTranspose,
}
OURS: dict[Any, Any] = {
    keras.layers.Conv1D: DOConv1D,
    keras.layers.Conv2D: DOConv2D,
    keras.layers.Conv3D: DOConv3D,
    keras.layers.DepthwiseConv2D: DODepthwiseConv2D,
    keras.layers.SeparableConv1D: DOSeparableConv1D,
    keras.layers.SeparableConv2D: DOSeparableConv2D,
    **_TRANSPOSED,
}
_SEPARABLE = (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)
# Layers with a depthwise kernel, which is what D' is for in a separable one.
_DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D, *_SEPARABLE)
_CONVOLUTIONS = (*OURS, keras.layers.DepthwiseConv1D)

# D_mul for all layers, or for the layer of a spec; None is |K|.
DMul = int | Callable[[Spec], int] | None


def plan(
    model: Any,
    *,
    input_shape: tuple[Any, ...] | None = None,
    where: Where | Choice | None = None,
    d_mul: DMul = None,
    composition: str = "kernel",
) -> Plan:
    """What `convert` would do with these options; `str` of it is a table.

    Args:
        model: a model or a layer; a subclassed model is looked at, but cannot be converted.
        input_shape: of the batch to count multiply-accumulates for, with its axes in the model's
            own order, such as `(1, 224, 224, 3)`; for several inputs a list or dict of shapes.
            Without it the shape the model was made for is taken, and a batch of 1; where that
            leaves a size open they are not counted. Nothing is computed: Keras infers the shapes.
            A layer inside `TimeDistributed` is counted for one step, and of a separable layer the
            depthwise part.
        where, d_mul, composition: as for `convert`.

    Raises:
        DOConvError: if an option breaks a rule.
    """
    shape = _made_for(model) if input_shape is None else input_shape
    positions = {} if shape is None else _positions(model, shape)
    rows = tuple(
        Row(**{**vars(row), "positions": positions.get(id(layer))})
        for layer, row in decisions(model, where, d_mul, rules.composition(composition))
    )
    batch = keras.tree.flatten(shape)[0] if shape else 1
    return Plan(rows, _count(model), batch)


def decisions(
    model: Any, where: Where | Choice | None, d_mul: DMul, composition: str
) -> Iterator[tuple[Any, Row]]:
    """Each convolution once, in the model's order, with what becomes of it."""
    seen: set[int] = set()
    for name, layer, owner in named_layers(model):
        if not isinstance(layer, _CONVOLUTIONS) or id(layer) in seen:
            continue
        kind, reason = type(layer), _reason(layer, owner)
        spec = None if isinstance(layer, Composed) else _spec(layer, None)
        if reason is None and spec is not None:
            if chosen(where, name, layer, spec, len(seen)):
                spec = _spec(layer, d_mul)
            else:
                reason = "not chosen"
        becomes = None if reason else OURS[kind].__name__
        # Keras has no grouped transposed convolution, which feature composition would need.
        way = "kernel" if kind in _TRANSPOSED else composition
        yield layer, Row(name, kind.__name__, becomes, reason, _count(layer), spec, composition=way)
        seen.add(id(layer))


def _reason(layer: Any, owner: Any) -> str | None:
    """Why a convolution has to be left, or None."""
    is_computed = getattr(layer, "lora_enabled", False) or isinstance(
        owner, keras.layers.SpectralNormalization
    )
    reasons = (
        (isinstance(layer, Composed), "has a depthwise kernel already"),
        (is_computed, "its weight is computed from other parameters"),
        (math.prod(layer.kernel_size) == 1, "its kernel has one position"),
        (layer.quantization_mode is not None, "it is prepared for quantisation"),
        (owner is not None, f"only the code of {type(owner).__name__} could make it again"),
        (type(layer) not in _CONVOLUTIONS, "its class is not Keras's own"),
        (type(layer) not in OURS, "its class has no over-parameterized one"),
    )
    return next((reason for holds, reason in reasons if holds), None)


def _spec(layer: Any, d_mul: DMul) -> Spec:
    """The sizes of a plain layer; one without variables knows only its output channels."""
    make = Spec.of_transposed if isinstance(layer, tuple(_TRANSPOSED)) else Spec
    sizes = (*_channels(layer), layer.kernel_size, _groups(layer))
    return make(*sizes, d_mul(make(*sizes)) if callable(d_mul) else d_mul)


def _channels(layer: Any) -> tuple[int | None, int | None]:
    is_depthwise = isinstance(layer, _DEPTHWISE)
    if not layer.built:
        return None, None if is_depthwise else layer.filters
    *_, inner, outer = kernel_of(layer).shape
    if is_depthwise:
        return inner, inner * outer
    return (
        outer if isinstance(layer, tuple(_TRANSPOSED)) else inner * _groups(layer),
        layer.filters,
    )


def _groups(layer: Any) -> int:
    if isinstance(layer, _DEPTHWISE):
        return int(kernel_of(layer).shape[-2]) if layer.built else 1
    return getattr(layer, "groups", 1)


def kernel_of(layer: Any) -> Any:
    """The kernel that a D' belongs to."""
    return layer.depthwise_kernel if isinstance(layer, _SEPARABLE) else layer.kernel


def _count(layer: Any) -> int:
    return sum(math.prod(variable.shape) for variable in layer.weights)


def in_own_order(model: Any, shape: Shape) -> Shape:
    """The shape `(N, C, *size)` of a batch with its axes in the order the model's layers have."""
    formats = (getattr(layer, "data_format", None) for _, layer, _ in named_layers(model))
    order = next((one for one in formats if one), keras.config.image_data_format())
    batch, channels, *size = shape
    return shape if order == "channels_first" else (batch, *size, channels)


def _made_for(model: Any) -> Any:
    """The shape of a batch of one that a model was made for, or None where a size is open."""
    try:
        made_for = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    except AttributeError:  # It has seen no symbolic input.
        return None
    shapes = keras.tree.map_structure(lambda x: (x.shape[0] or 1, *x.shape[1:]), made_for)
    return None if None in keras.tree.flatten(shapes) else shapes


def _positions(model: Any, input_shape: Any) -> dict[int, Shape]:
    """The spatial size of each convolution's output; of a transposed one's, of its input."""
    sizes: dict[int, Shape] = {}
    layers = [found[1] for found in named_layers(model) if isinstance(found[1], _CONVOLUTIONS)]
    kept = {id(layer): layer for layer in layers}

    def keep(layer: Any) -> None:
        infer = layer.compute_output_shape

        @functools.wraps(infer)
        def recorded(input_shape: Any) -> Any:
            out = infer(input_shape)
            shape = input_shape if isinstance(layer, tuple(_TRANSPOSED)) else out
            last = layer.data_format == "channels_last"
            sizes[id(layer)] = tuple(shape[1:-1] if last else shape[2:])
            return out

        layer.compute_output_shape = recorded

    for layer in kept.values():
        keep(layer)
    try:
        model.compute_output_shape(input_shape)
    finally:
        for layer in kept.values():
            del layer.compute_output_shape
    return sizes
