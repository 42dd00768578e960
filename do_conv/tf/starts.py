"""How D' starts in Keras."""

from __future__ import annotations

from typing import Any

from keras import initializers, ops

from do_conv.core import layouts
from do_conv.core.starts import Normal


class DeltaStart(initializers.Initializer):
    """Draws D', in Keras's order of axes, from the distribution that the core names."""

    def __init__(self, start: Normal) -> None:
        self.start = start

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        """D' of the shape `(*K, C_in, D_mul)`."""
        if not self.start.std:
            return ops.zeros(shape, dtype)
        drawn = initializers.RandomNormal(0, self.start.std)(shape, dtype)
        return drawn + ops.cast(layouts.delta_to_keras(self.start.mean[None]), dtype)
