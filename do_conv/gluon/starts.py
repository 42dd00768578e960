"""How W, D' and a separable pair start in MXNet."""

from __future__ import annotations

from typing import Any

import mxnet as mx

from do_conv.core.rules import DepthwiseInit
from do_conv.core.spec import Spec
from do_conv.core.starts import delta_start, fill_from_kernel
from do_conv.gluon.arrays import as_given, legacy_arrays


@mx.init.register
class DeltaStart(mx.init.Initializer):
    """Draws D' as the core says, whatever initializer the network is given.

    Args:
        depthwise_init: "identity" or "he".
        kernel_size: K.
        d_mul: D_mul.
    """

    def __init__(
        self, depthwise_init: DepthwiseInit, kernel_size: tuple[int, ...], d_mul: int
    ) -> None:
        super().__init__(depthwise_init=depthwise_init, kernel_size=kernel_size, d_mul=d_mul)
        self._start = delta_start(depthwise_init, Spec(None, 1, tuple(kernel_size), d_mul=d_mul))

    def _init_weight(self, _: Any, array: Any) -> None:
        (array,) = legacy_arrays(array)
        array[:] = 0
        if self._start.std:
            mx.random.normal(0, self._start.std, out=array)
            array += mx.nd.array(self._start.mean, ctx=array.context, dtype=array.dtype)


@mx.init.register
class ReshapedStart(mx.init.Initializer):
    """Draws a kernel in another shape: a plain layer's, whose fans an initializer reads.

    Args:
        shape: the plain kernel's shape; -1 is what remains.
        initializer: what draws it; None is what the network is given.
    """

    def __init__(self, shape: tuple[int, ...], initializer: Any = None) -> None:
        given = initializer.dumps() if isinstance(initializer, mx.init.Initializer) else initializer
        super().__init__(shape=shape, initializer=given)
        self._shape = tuple(shape)
        self._initializer = None if initializer is None else mx.init.create(initializer)

    def _init_weight(self, desc: Any, array: Any) -> None:
        (array,) = legacy_arrays(array)
        draw = desc.global_init if self._initializer is None else self._initializer
        # The reshaped array is the same memory.
        draw._init_weight(desc, as_given(array.reshape(self._shape)))


def weight_for(kernel: Any, spec: Spec) -> Any:
    """A W that composes to `kernel` while D is the identity."""
    (kernel,) = legacy_arrays(kernel)
    options = {"ctx": kernel.context, "dtype": kernel.dtype}
    weight = mx.nd.empty(spec.weight_shape, **options)
    mx.init.Uniform()._init_weight("", as_given(weight))  # shares memory
    fill_from_kernel(weight, kernel, spec)
    return as_given(weight)
