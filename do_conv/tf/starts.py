"""How W and D' start in Keras."""

from __future__ import annotations

from typing import Any

from keras import initializers, ops

from do_conv.core import layouts
from do_conv.core.rules import DepthwiseInit
from do_conv.core.spec import Spec
from do_conv.core.starts import delta_start, fill_from_kernel


class DeltaStart(initializers.Initializer):
    """Draws D' in Keras's layout from the distribution the core names."""

    def __init__(self, depthwise_init: DepthwiseInit, spec: Spec) -> None:
        self.start = delta_start(depthwise_init, spec)

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        """The values of D', `(*K, C_in, D_mul)`."""
        if not self.start.std:
            return ops.zeros(shape, dtype)
        drawn = initializers.RandomNormal(0, self.start.std)(shape, dtype)
        return drawn + ops.cast(layouts.delta_to_keras(self.start.mean[None]), dtype)


def weight_for(kernel: Any, spec: Spec, variable: Any) -> Any:
    """A W that composes to `kernel` while D is the identity, as a NumPy array for its variable."""
    if spec.has_plain_weight:
        return kernel
    drawn = initializers.GlorotUniform()(tuple(variable.shape), dtype=variable.dtype)
    slots = ops.convert_to_numpy(drawn).copy()
    # The transposed views write into the arrays themselves.
    fill_from_kernel(layouts.kernel_from_keras(slots), layouts.kernel_from_keras(kernel), spec)
    return slots
