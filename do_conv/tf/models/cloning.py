"""Making a model again, layer by layer, with others in the place of some.

Keras has no layer whose class may change, and its own `clone_model` copies neither values, nor
what is trained, nor optional inputs. So every layer is made again from its configuration, and the
values are carried over through NumPy: on jax two variables would otherwise share their memory.
"""

from __future__ import annotations

import inspect
import tempfile
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import ops

from do_conv.core.errors import DOConvError
from do_conv.models import checks
from do_conv.tf.plain import made_like

# Makes what takes a layer's place, or returns None; and gives it its values.
Replace = Callable[[Any], Any]
Fill = Callable[[Any, Any], None]


def check_model(model: Any) -> None:
    """Refuse what is neither a model nor a layer, such as a list of weights.

    Raises:
        DOConvError: if it is neither.
    """
    is_layer = isinstance(model, keras.layers.Layer)
    checks.model_kind(is_layer, "Keras model or layer", type(model).__name__)


def known(model: Any, remedy: str) -> None:
    """Refuse a subclassed model: only its own code knows how its layers are called."""
    is_known = not isinstance(model, keras.Model) or is_remade(model)
    checks.remakeable(is_known, type(model).__name__, remedy)


def cloned(model: Any, replace: Replace, fill: Fill) -> Any:
    """A new model, with the layers that `replace` makes in the place of others.

    Args:
        model: a Functional or Sequential model, or a layer.
        replace: returns an unbuilt layer for one of the model, or None to keep its kind.
        fill: called with each layer that was replaced and its successor, once that is built.

    Returns:
        the new model, with the values, what is trained, and what `compile` was given.
    """
    cloning = _Cloning(replace)
    new = cloning.successor(model)
    if model.built and not new.built:
        new.build_from_config(model.get_build_config())
    # Parents come after what they hold, and hand what is trained down.
    for old, made in reversed(cloning.made.values()):
        if isinstance(old, keras.layers.Layer) and made is not old:
            made.trainable = old.trainable
    for old, made in cloning.made.values():
        if id(old) in cloning.replaced:
            if old.built:
                fill(old, made)
                for one, other in zip(children(old), children(made), strict=True):
                    _copy_state(one, other)  # an activation may be a layer
        elif isinstance(old, keras.layers.Layer) and made is not old and not is_remade(old):
            _copy_state(old, made)
    _compile_as(model, new)
    return new


def is_remade(layer: Any) -> bool:
    """Whether a layer holds others and is made again around their successors."""
    if isinstance(layer, keras.Function):
        # A subclass that Keras makes from inputs and outputs alone.
        return inspect.getfullargspec(type(layer).__init__).args[1:] == _OF_A_GRAPH
    return type(layer) in (keras.Sequential, keras.layers.TimeDistributed)


_OF_A_GRAPH = ["inputs", "outputs", "name"]


def children(layer: Any) -> list[Any]:
    """The layers a layer holds, in its order."""
    if isinstance(layer, (keras.Function, keras.Sequential)):
        return list(layer.layers)
    return list(layer._flatten_layers(include_self=False, recursive=False))


def named_layers(layer: Any, name: str = "", owner: Any = None) -> Iterator[tuple[str, Any, Any]]:
    """Each layer with its name, `block/conv`, and the outermost owner that is not remade, or None.

    A layer that stands in several places comes several times.
    """
    yield name, layer, owner
    if owner is None and not is_remade(layer):
        owner = layer
    for child in children(layer):
        yield from named_layers(child, f"{name}/{child.name}" if name else child.name, owner)


class _Cloning:
    """The successors of layers, each made once, so that layers that are shared stay shared.

    Attributes:
        made: each layer or operation with its successor, those it holds before it.
        replaced: the ids of those `replace` made a successor for.
    """

    def __init__(self, replace: Replace) -> None:
        self._replace = replace
        self.made: dict[int, tuple[Any, Any]] = {}
        self.replaced: set[int] = set()

    def successor(self, layer: Any) -> Any:
        if id(layer) not in self.made:
            made = self._make(layer)
            if isinstance(layer, keras.layers.Layer) and made is not layer:
                # The scopes it was built in are part of its variables' paths.
                made._parent_path = layer._parent_path
            self.made[id(layer)] = layer, made
        return self.made[id(layer)][1]

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
        except AttributeError:  # It has not seen an input.
            return keras.Sequential(layers, name=model.name)
        return keras.Sequential([_same_input(model, x), *layers], name=model.name)


def _same_input(model: Any, x: Any) -> Any:
    """A new input like the model's input `x`, which has another name than its layer."""
    own = model._flatten_layers(include_self=False, recursive=False)
    inputs = (one for one in own if isinstance(one, keras.layers.InputLayer))
    layer = next(one for one in inputs if one.output is x)
    return keras.Input(
        batch_shape=x.shape, dtype=x.dtype, sparse=x.sparse, name=layer.name,
        optional=layer.optional,
    )  # fmt: skip


def _copy_state(old: Any, new: Any) -> None:
    """Give a layer, and all it holds, the values of the one it was made from."""
    pairs = zip(old.variables, new.variables, strict=True)
    for variable, copy in pairs:
        copy.assign(ops.convert_to_numpy(variable))
        if copy.trainable != variable.trainable:
            copy.trainable = variable.trainable
    for one, other in zip(old._flatten_layers(), new._flatten_layers(), strict=True):
        if hasattr(one, "finalize_state"):
            other.finalize_state()  # what `Normalization` derives from its variables
        if hasattr(one, "save_assets"):
            with tempfile.TemporaryDirectory() as folder:  # a vocabulary is no variable
                one.save_assets(folder)
                other.load_assets(folder)


def _compile_as(old: Any, new: Any) -> None:
    """Compile as the old model was, with the same loss; the optimizer starts anew."""
    if getattr(old, "compiled", False):
        try:
            _compile(old, new)
        except DOConvError as error:
            warnings.warn(str(error), stacklevel=4)


def _compile(old: Any, new: Any) -> None:
    is_kerass = type(old).compile is keras.Model.compile
    checks.compiled_again(is_kerass, f"a {type(old).__name__}, with a compile() of its own")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Keras says of storing a lambda
            config = old.get_compile_config()
        # A loss holds no state. Made again, it may differ: Keras forgets the delta of a `Huber`,
        # and knows a function by its name alone.
        del config["loss"]
        new.compile(loss=old.loss, **keras.saving.deserialize_keras_object(config))
    except (TypeError, ValueError, NotImplementedError) as error:
        checks.compiled_again(False, f"one of which it says: {error.args[0]}")
    if new.built and new.optimizer is not None:
        new.optimizer.build(new.trainable_variables)
