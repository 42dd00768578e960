"""A training step of W and D' beside a network that keeps W' as its own plain kernel.

The loss depends on W and D through W' alone (equation 3 of the paper). So a network has to give the
gradient of W': those of W and D' follow from it, an optimizer steps on both, and W' is composed
anew. The training is that of a layer that holds W and D' itself, and the network stays plain.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from do_conv.core.composition import compose_spec, compose_spec_gradients
from do_conv.core.spec import Spec

# An optimizer's step: the parameter's name, its value and its gradient give its new value.
Update = Callable[[str, np.ndarray, np.ndarray], np.ndarray]


def step(
    weight: np.ndarray, delta: np.ndarray, grad: np.ndarray, update: Update, groups: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One step on W and D', given dL/dW'.

    Args:
        weight: W, `(C_out, C_in/groups, D_mul)`, or `(C_out, C_in/groups, *K)` if D_mul = |K|.
        delta: D' = D - I, `(C_in, D_mul, *K)`.
        grad: dL/dW', the gradient of the plain kernel, `(C_out, C_in/groups, *K)`.
        update: the optimizer, called for "weight" and for "depthwise_delta".
        groups: G.

    Returns:
        W, D' and W' after the step.

    Raises:
        DOConvError: if the shapes do not belong to one layer.
    """
    spec = Spec.of_shapes(weight.shape, delta.shape, groups)
    of_weight, of_delta = compose_spec_gradients(grad, weight, delta, spec)
    weight = update("weight", weight, of_weight)
    delta = update("depthwise_delta", delta, of_delta)
    return weight, delta, compose_spec(weight, delta, spec)
