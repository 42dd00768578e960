"""Whether two models do the same: the proof after converting, folding, or carrying weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from do_conv.tf.models import messages
from do_conv.tf.models.cloning import named_layers


def verify(
    before: Any, after: Any, *inputs: Any, tolerance: float = 1e-5, training: bool = False
) -> float:
    """Run both models on the inputs and compare what they give.

    Args:
        before, after: two models or layers, such as a model and its conversion.
        inputs: what both are called with.
        tolerance: the largest difference allowed, relative to the largest value of `before`.
        training: the mode both are run in. True sets the random seed, for both alike; running
            averages are put back afterwards.

    Returns:
        the largest relative difference.

    Raises:
        DOConvError: if it is above the tolerance; the message says where it begins, how large it
            is, and whether the models were run in training mode.
    """
    (outputs, inside), (others, inside_other) = (
        _run(model, inputs, training) for model in (before, after)
    )
    alike = [one.shape for one in outputs] == [one.shape for one in others]
    difference = max(map(_difference, outputs, others), default=0.0) if alike else float("inf")
    if not difference <= tolerance:
        common = (name for name in inside if name in inside_other)
        apart = (n for n in common if not _difference(inside[n], inside_other[n]) <= tolerance)
        raise messages.differing(difference, tolerance, next(apart, None), training)
    return difference


def _run(
    model: Any, inputs: tuple[Any, ...], training: bool
) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """The arrays a model gives, and the first of each layer it holds, in the order they come."""
    if training:
        keras.utils.set_random_seed(0)
    with _state_kept(model), _outputs_kept(model) as inside:
        # A bare layer need not take the mode; for all within it the call decides.
        mode = {"training": training} if training or isinstance(model, keras.Model) else {}
        return list(_arrays(model(*inputs, **mode))), inside


@contextlib.contextmanager
def _state_kept(model: Any) -> Iterator[None]:
    """Put running averages and seeds back: a call in training mode moves them."""
    moved = [v for v in model.variables if not v.trainable]
    values = [np.array(ops.convert_to_numpy(variable)) for variable in moved]
    try:
        yield
    finally:
        for variable, value in zip(moved, values, strict=True):
            variable.assign(value)


@contextlib.contextmanager
def _outputs_kept(model: Any) -> Iterator[dict[str, np.ndarray]]:
    """Keep what each layer inside gives; Keras has no hooks, so `call` stands aside meanwhile."""
    inside: dict[str, np.ndarray] = {}
    layers = {id(layer): (name, layer) for name, layer, _ in named_layers(model) if name}

    def keep(name: str, layer: Any) -> None:
        call = layer.call

        def kept(*args: Any, **kwargs: Any) -> Any:
            outputs = call(*args, **kwargs)
            first = next(_arrays(outputs), None)
            if first is not None:
                inside[name] = first
            return outputs

        layer.call = kept

    for name, layer in layers.values():
        keep(name, layer)
    try:
        yield inside
    finally:
        for _, layer in layers.values():
            del layer.call


def _arrays(value: Any) -> Iterator[np.ndarray]:
    """The arrays in what a model gives: alone, in sequences, in mappings."""
    for one in keras.tree.flatten(value):
        if ops.is_tensor(one):
            yield np.array(ops.convert_to_numpy(one))


def _difference(before: np.ndarray, after: np.ndarray) -> float:
    """The largest difference, relative to the largest value of `before`; NaN counts as infinite."""
    if before.shape != after.shape:
        return float("inf")
    if not before.size:
        return 0.0
    wide = before.astype("float64"), after.astype("float64")
    scale = float(abs(wide[0]).max())
    difference = float(abs(wide[0] - wide[1]).max())
    relative = difference / scale if scale else difference
    return relative if np.isfinite(relative) else float("inf")
