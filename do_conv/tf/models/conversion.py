"""Converting whole models."""

from __future__ import annotations

from typing import Any, TypeVar

from keras import ops

from do_conv.core import rules
from do_conv.core.rules import CompositionName, DepthwiseInit
from do_conv.core.spec import Spec
from do_conv.models.choices import Where
from do_conv.models.decisions import DMul, to_convert
from do_conv.tf.models.classes import class_for, kernel_of
from do_conv.tf.models.copies import copied
from do_conv.tf.models.planning import described
from do_conv.tf.models.structure import check_known, check_model
from do_conv.tf.plain import made_like
from do_conv.tf.starts import weight_for

ModelT = TypeVar("ModelT")


def convert(
    model: ModelT,
    *,
    where: Where = None,
    d_mul: DMul = None,
    depthwise_init: DepthwiseInit = "identity",
    composition: CompositionName = "kernel",
) -> ModelT:
    """Over-parameterize the convolutions of a model, or a bare convolution.

    With the identity start the outputs stay what they are, to the last bit. Weights, names, dtype
    policies, regularizers, constraints and what is trained stay; D' is trained if its kernel is.
    Layers that are shared stay shared. If `model` is compiled, so is the new one, by Keras's
    `get_compile_config`, with a new optimizer; if Keras cannot, a warning says so.

    Args:
        model: a Functional or Sequential model, with models inside it at any depth, or a layer. A
            `Lambda` and operations of `keras.ops` in it are used by the new model, too.
        where: which layers: a function of a layer's name and the layer, a regular expression that
            is searched for in the name, or a choice of `do_conv.choices`; None is all that can be.
            The name of a layer of a model inside is `inner/layer`.
        d_mul: D_mul, at least |K|, the default; or a function of a layer's `Spec`.
        depthwise_init: "identity" or "he" (Table 7), which changes the outputs.
        composition: "kernel" or "feature"; transposed layers take "kernel" only.

    Returns:
        a new model; `model` is as it was.

    Raises:
        DOConvError: if there is nothing to convert, the model is subclassed, or an option breaks a
            rule.
    """
    check_model(model)
    start = rules.depthwise_init(depthwise_init)
    remedy = (
        "train it with DOConvOptimizer, convert the models and layers it holds, or use "
        "do_conv.tf's layers in its code"
    )
    check_known(model, remedy)
    converted = to_convert(described(model), where, d_mul, composition)
    rows = {id(layer): row for layer, row in converted}

    def replace(layer: Any) -> Any:
        row = rows.get(id(layer))
        return None if row is None else over_parameterized(layer, row.spec, start, row.composition)

    return copied(model, replace, fill)


def over_parameterized(
    layer: Any, spec: Spec | None, start: DepthwiseInit, composition: CompositionName
) -> Any:
    """A DO-Conv layer with a plain one's configuration, without variables."""
    assert spec is not None
    ours = {"d_mul": spec.d_mul, "depthwise_init": start, "composition": composition}
    return made_like(layer, class_for(type(layer)), ours)


def fill(layer: Any, ours: Any) -> None:
    """Give a DO-Conv layer the plain one's values; D' is trained if the kernel is."""
    kernel, slots = kernel_of(layer), kernel_of(ours)
    for name in ("kernel", "depthwise_kernel", "pointwise_kernel", "bias"):
        variable = getattr(layer, name, None)
        if variable is not None:
            value, own = ops.convert_to_numpy(variable), getattr(ours, name)
            own.assign(weight_for(value, ours.spec, own) if own is slots else value)
            own.trainable = variable.trainable
    ours.depthwise_delta.trainable = kernel.trainable
