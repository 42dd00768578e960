"""Values of a kernel, which tell that somebody else has written it: MXNet counts no writes."""

from __future__ import annotations

import math
from typing import Any

import mxnet as mx
import numpy as np

from do_conv.core.spec import Spec
from do_conv.gluon.arrays import legacy_arrays
from do_conv.gluon.optimizer import loops
from do_conv.models import samples


class Values:
    """A sample of a kernel's values in each of its contexts.

    Args:
        parameter: the kernel.
        spec: its sizes.
    """

    def __init__(self, parameter: Any, spec: Spec) -> None:
        self._parameter, self._spec = parameter, spec
        self._known: list[Any] | None = None
        self._flat = samples.places(math.prod(spec.composed_shape))
        places = np.stack(np.unravel_index(self._flat, spec.composed_shape))
        self._places = [mx.nd.array(places, ctx, "int64") for ctx in parameter.list_ctx()]

    def sample(self) -> list[Any]:
        """The sample now; operators that are under way come first, and are not waited for."""
        arrays = legacy_arrays(*self._parameter.list_data())
        if loops.pay(self._spec, *arrays):  # the C loops have waited for operators
            return [loops.values(array, self._flat) for array in arrays]
        return [mx.nd.gather_nd(*one) for one in zip(arrays, self._places, strict=True)]

    def mark(self) -> None:
        """Remember the values as those that were composed."""
        self._known = self.sample()

    def forget(self) -> None:
        """Remember none: W and D' come from elsewhere."""
        self._known = None

    def are_those(self, now: list[Any]) -> bool:
        """Whether a sample has the values that are remembered."""
        return self._known is not None and are_equal(now, self._known)


def are_equal(ones: list[Any], others: list[Any]) -> bool:
    """Whether two lists of arrays have the same values, NaN being one."""
    pairs = zip(map(numbers, ones), map(numbers, others), strict=True)
    return all(np.array_equal(one, other, equal_nan=True) for one, other in pairs)


def numbers(array: Any) -> np.ndarray:
    """The values of an array of MXNet's, or of NumPy's."""
    # A copy waits for operators that reorder a kernel while they read it.
    return array if isinstance(array, np.ndarray) else array.copy().asnumpy()
