"""Copies of whole models: made again layer by layer, with others in the place of some.

Keras has no layer whose class may change, and its own `clone_model` copies neither values, nor
what is trained, nor optional inputs. So every layer is made again from its configuration, and the
values are carried over through NumPy: on jax two variables would otherwise share their memory.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import keras

from do_conv.core.errors import broken
from do_conv.tf.models.structure import children, is_remade
from do_conv.tf.plain import copy_state, made_like

# Make the layer that takes a layer's place, or return None; and give it its values.
Replace = Callable[[Any], Any]
Fill = Callable[[Any, Any], None]


def copied(model: Any, replace: Replace, fill: Fill, *, compiles: bool = True) -> Any:
    """A new model, with the layers that `replace` makes in the place of others.

    Args:
        model: a Functional or Sequential model, or a layer.
        replace: returns an unbuilt layer for one of the model, or None to keep its kind.
        fill: called with each replaced layer and its successor, once the successor is built.
        compiles: whether the new model is compiled as `model` is, with a new optimizer.

    Returns:
        the new model, with the values and what is trained.
    """
    copying = _Copying(replace)
    copy = copying.successor(model)
    if model.built and not copy.built:
        copy.build_from_config(model.get_build_config())
    # Parents come after their children and pass `trainable` down.
    for old, new in reversed(copying.successors.values()):
        if isinstance(old, keras.layers.Layer) and new is not old:
            new.trainable = old.trainable
    for old, new in copying.successors.values():
        if id(old) in copying.replaced:
            if old.built:
                fill(old, new)
                for child, new_child in zip(children(old), children(new), strict=True):
                    copy_state(child, new_child)  # an activation may be a layer
        elif isinstance(old, keras.layers.Layer) and new is not old and not is_remade(old):
            copy_state(old, new)
    if compiles:
        compile_as(model, copy)
    return copy


class _Copying:
    """The successors of layers, each made once, so that shared layers stay shared.

    Attributes:
        successors: each layer or operation with its successor, those it holds before it.
        replaced: the ids of those `replace` made a successor for.
    """

    def __init__(self, replace: Replace) -> None:
        self._replace = replace
        self.successors: dict[int, tuple[Any, Any]] = {}
        self.replaced: set[int] = set()

    def successor(self, layer: Any) -> Any:
        if id(layer) not in self.successors:
            new = self._make(layer)
            if isinstance(layer, keras.layers.Layer) and new is not layer:
                # The scopes it was built in are part of its variables' paths.
                new._parent_path = layer._parent_path
            self.successors[id(layer)] = layer, new
        return self.successors[id(layer)][1]

    def _make(self, layer: Any) -> Any:
        if isinstance(layer, keras.Function) and is_remade(layer):
            return self._functional(layer)
        if type(layer) is keras.Sequential:
            return self._sequential(layer)
        if type(layer) is keras.layers.TimeDistributed:
            config = {k: v for k, v in layer.get_config().items() if k != "layer"}
            return keras.layers.TimeDistributed(self.successor(layer.layer), **config)
        replaced = self._replace(layer)
        if replaced is not None:
            self.replaced.add(id(layer))
            return replaced
        # A Lambda's function may close over anything, and an operation holds no values: both
        # models use the same one. Keras numbers their calls apart.
        if isinstance(layer, keras.layers.Lambda) or not isinstance(layer, keras.layers.Layer):
            return layer
        return made_like(layer, type(layer))

    def _functional(self, model: Any) -> Any:
        inputs = keras.tree.map_structure(lambda x: _same_input(model, x), model.input)
        # A model of the same graph that was never compiled: `clone_model` would compile its copy,
        # and fail on a loss it cannot make again.
        graph = keras.Model(model.input, model.output, name=model.name)
        copy = keras.models.clone_model(graph, inputs, clone_function=self.successor)
        return copy if type(copy) is type(model) else type(model)(
            copy.input, copy.output, name=model.name
        )  # fmt: skip

    def _sequential(self, model: Any) -> Any:
        layers = [self.successor(layer) for layer in model.layers]
        try:
            (x,) = model.inputs
        except AttributeError:  # It has not seen an input yet.
            return keras.Sequential(layers, name=model.name)
        return keras.Sequential([_same_input(model, x), *layers], name=model.name)


def _same_input(model: Any, x: Any) -> Any:
    """A new input like the model's input `x`, which has another name than its layer."""
    own = model._flatten_layers(include_self=False, recursive=False)
    inputs = (layer for layer in own if isinstance(layer, keras.layers.InputLayer))
    layer = next(layer for layer in inputs if layer.output is x)
    return keras.Input(
        batch_shape=x.shape, dtype=x.dtype, sparse=x.sparse, name=layer.name,
        optional=layer.optional,
    )  # fmt: skip


def compile_as(old: Any, new: Any, optimizer: Any = None) -> None:
    """Compile as the old model was, with the same loss.

    Args:
        old: a model, which may not be compiled: then the new one is not, either.
        new: the new model.
        optimizer: its optimizer; None is one like the old model's, which starts anew.
    """
    trouble = _compile(old, new, optimizer) if getattr(old, "compiled", False) else None
    if trouble is not None:
        refused = broken(
            "a compiled model must be one that Keras can compile again",
            trouble,
            "call compile() of the new model, which is not compiled",
        )
        warnings.warn(str(refused), stacklevel=4)


def _compile(old: Any, new: Any, optimizer: Any) -> str | None:
    """Compile the new model, or say why it cannot be compiled."""
    if type(old).compile is not keras.Model.compile:
        return f"a {type(old).__name__}, with a compile() of its own"
    its = getattr(old.optimizer, "inner_optimizer", old.optimizer)
    if optimizer is None and hasattr(its, "kernels"):
        return f"one with a {type(its).__name__}, which is for the kernels of that model"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras warns of storing a lambda
            config = old.get_compile_config()
        # A loss holds no state. Made again, it may differ: Keras forgets the delta of a `Huber`,
        # and knows a function by its name alone.
        del config["loss"]
        if optimizer is not None:
            del config["optimizer"]
        options = keras.saving.deserialize_keras_object(config)
        if optimizer is not None:
            options["optimizer"] = optimizer
        new.compile(loss=old.loss, **options)
    except (TypeError, ValueError, NotImplementedError) as error:
        return f"one that fails with: {error.args[0]}"
    if new.built and new.optimizer is not None and not new.optimizer.built:
        new.optimizer.build(new.trainable_variables)
    return None
