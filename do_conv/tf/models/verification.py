"""Whether two models do the same: the proof after converting, folding or loading weights."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from do_conv.models.comparison import Inside, agreement, flattened
from do_conv.tf.models.structure import check_model, named_layers, restored


def verify(
    before: Any, after: Any, *inputs: Any, tolerance: float = 1e-5, training: bool = False
) -> float:
    """Run both models on the inputs and compare what they give.

    Args:
        before, after: two models or layers, such as a model and its conversion.
        inputs: what both are called with.
        tolerance: the largest difference allowed, relative to the largest value of `before`.
        training: the mode both are run in. True sets the random seed, for both alike; what a call
            moves, such as running averages, is put back afterwards.

    Returns:
        the largest relative difference.

    Raises:
        DOConvError: if it is above the tolerance; the message says where it begins, how large it
            is, and whether the models were run in training mode.
    """
    for model in (before, after):
        check_model(model)
    runs = [_run(model, inputs, training) for model in (before, after)]
    (first, first_inside), (second, second_inside) = runs
    remedy = "leave training=True out" if training else None
    return agreement(first, second, tolerance, lambda: (first_inside, second_inside), remedy)


def _run(model: Any, inputs: tuple[Any, ...], training: bool) -> tuple[list[np.ndarray], Inside]:
    """The arrays a model gives, and the first of each layer it holds, in the order they come."""
    if training:
        keras.utils.set_random_seed(0)
    with _state_restored(model), _outputs_recorded(model) as inside:
        # A bare layer may not accept `training`; the call sets it for all layers within.
        mode = {"training": training} if training or isinstance(model, keras.Model) else {}
        return list(_arrays(model(*inputs, **mode))), inside


@contextlib.contextmanager
def _state_restored(model: Any) -> Iterator[None]:
    """Put the variables back: a call in training mode moves averages, seeds, and some kernels."""
    moved = list(model.variables)
    values = [np.array(ops.convert_to_numpy(variable)) for variable in moved]
    try:
        yield
    finally:
        for variable, value in zip(moved, values, strict=True):
            variable.assign(value)


@contextlib.contextmanager
def _outputs_recorded(model: Any) -> Iterator[dict[str, np.ndarray]]:
    """Record each inner layer's output; Keras has no hooks, so `call` is replaced meanwhile."""
    inside: dict[str, np.ndarray] = {}
    layers = {id(layer): (name, layer) for name, layer, _ in named_layers(model) if name}

    def keep(name: str, layer: Any) -> None:
        call = layer.call

        def kept(*args: Any, **kwargs: Any) -> Any:
            outputs = call(*args, **kwargs)
            # A function that the backend traces, such as a recurrent layer's, has no values.
            with contextlib.suppress(TypeError, AttributeError, NotImplementedError):
                if name not in inside:  # the first time that a layer runs
                    inside.update((name, array) for array in itertools.islice(_arrays(outputs), 1))
            return outputs

        layer.call = kept

    replaced = [(layer, "call") for _, layer in layers.values()]
    with restored(replaced):
        for name, layer in layers.values():
            keep(name, layer)
        yield inside


def _arrays(value: Any) -> Iterator[np.ndarray]:
    """The arrays in what a model gives."""
    for tensor in flattened(value, ops.is_tensor):
        yield np.array(ops.convert_to_numpy(tensor))
