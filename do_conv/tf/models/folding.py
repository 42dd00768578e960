"""Folding whole models: the result does not depend on do_conv."""

from __future__ import annotations

from typing import Any, TypeVar, overload

import keras

from do_conv.core.errors import broken
from do_conv.models import checks
from do_conv.models.folds import Folds
from do_conv.tf.composed import Composed
from do_conv.tf.models.copies import copied
from do_conv.tf.models.structure import check_known, check_model, named_layers

_REMEDY = "make the plain model, and give folded_weights(model) to its set_weights"

PlainT = TypeVar("PlainT")
ModelT = TypeVar("ModelT")


@overload
def fold(model: Folds[PlainT], *, check_finite: bool = True) -> PlainT: ...
@overload
def fold(model: ModelT, *, check_finite: bool = True) -> ModelT: ...
def fold(model: Any, *, check_finite: bool = True) -> Any:
    """The plain model that does the same.

    Args:
        model: a Functional or Sequential model that holds DO-Conv layers, also in models within it
            and in `TimeDistributed`; or one such layer.
        check_finite: False folds parameters that hold NaN or infinity, too.

    Returns:
        a new model with the layer classes, names, and variables' names and shapes it had before it
        was converted. If `model` is compiled, so is it, with a new optimizer.

    Raises:
        DOConvError: if it holds no DO-Conv layer, one has no parameters yet, a kernel is not
            finite, the model is subclassed, or a DO-Conv layer is inside a layer of another class.
    """
    return folded(model, check_finite=check_finite)


def folded(model: Any, *, check_finite: bool, compiles: bool = True) -> Any:
    """`fold`; the plain model may be left without what `compile` was given."""
    check_model(model)
    ours = [(name, layer, owner) for name, layer, owner in named_layers(model) if _is_ours(layer)]
    checks.something_to_fold(len(ours), type(model).__name__)
    check_known(model, _REMEDY)
    for name, _, owner in ours:
        if owner is not None:
            raise broken(
                "a layer to fold must stand in a Functional or Sequential model, or in "
                "TimeDistributed",
                f"layer '{name}' inside a layer of a class of its own",
                _REMEDY,
            )
    layers = {id(layer): layer for _, layer, _ in ours}
    values = {key: layer.folded_values(check_finite=check_finite) for key, layer in layers.items()}

    def fill(layer: Any, plain: Any) -> None:
        for name, value in values[id(layer)].items():
            kernel, variable = getattr(layer, name), getattr(plain, name)
            variable.assign(value)
            if isinstance(kernel, keras.Variable):  # with LoRA the kernel is a sum
                variable.trainable = kernel.trainable

    def replace(layer: Any) -> Any:
        return layer._unbuilt_plain() if _is_ours(layer) else None

    return copied(model, replace, fill, compiles=compiles)


def _is_ours(layer: Any) -> bool:
    return isinstance(layer, Composed)
