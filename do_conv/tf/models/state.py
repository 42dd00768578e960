"""The weights of the plain model, without making it."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from do_conv.tf.composed import Composed
from do_conv.tf.models.structure import check_model, children


def folded_weights(model: Any, *, check_finite: bool = True) -> list[np.ndarray]:
    """The weights of the plain model that does the same, as its `set_weights` takes them.

    Args:
        model: a built model that holds DO-Conv layers, at any depth, or one such layer.
        check_finite: False folds parameters that hold NaN or infinity, too.

    Returns:
        new arrays, those of `model.get_weights()` in their order, except that each DO-Conv layer
        has the arrays of the plain layer in its place.

    Raises:
        DOConvError: if a folded kernel or its bias is not finite, or a layer has not been built.
    """
    check_model(model)
    replaced: dict[int, list[np.ndarray]] = {}
    for layer in model._flatten_layers():
        if isinstance(layer, Composed):
            values = layer.folded_values(check_finite=check_finite)
            held = {id(variable) for child in children(layer) for variable in child.weights}
            first, *rest = (one for one in layer.weights if id(one) not in held)
            replaced[id(first)] = list(values.values())
            replaced |= {id(variable): [] for variable in rest}
    weights: list[np.ndarray] = []
    for variable in model.weights:
        if id(variable) in replaced:
            weights += replaced[id(variable)]
        else:
            weights.append(ops.convert_to_numpy(variable))
    return weights
