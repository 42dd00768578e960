"""On a CPU: the C loops of `do_conv.native`, in the memory of MXNet's arrays.

MXNet computes later than it is asked to, and a float32 convolution lays its kernel out anew while
it reads it. So all operators end before an address is taken, and it holds until the next operator.
"""

from __future__ import annotations

import ctypes
from typing import Any

import mxnet as mx  # before the loops, so that both have one OpenMP
import numpy as np

from do_conv import native
from do_conv.core.spec import Spec


def pay(spec: Spec, *arrays: Any) -> bool:
    """Whether the loops can read and write these arrays, and are fast for the sizes."""
    return (
        spec.has_plain_weight
        and native.pays(spec.group_rows, spec.d_mul, spec.area)
        and name_of(arrays[0]) in native.LIBRARIES
        and all(array.dtype == arrays[0].dtype and _is_on_cpu(array) for array in arrays)
    )


def _is_on_cpu(array: Any) -> bool:
    return array.context.device_type == "cpu" and array.stype == "default"


def name_of(array: Any) -> str:
    """The name of an array's dtype."""
    return np.dtype(array.dtype).name


def address(array: Any) -> int:
    """Where the numbers of an array are, laid out as usual; all operators must have ended."""
    pointer = ctypes.c_void_p()
    mx.base.check_call(mx.base._LIB.MXNDArrayGetData(array.handle, ctypes.byref(pointer)))
    assert pointer.value is not None
    return pointer.value


def threads() -> int:
    """How many threads MXNet's operators use; one, if it was built without OpenMP."""
    return int(getattr(mx.base._LIB, "omp_get_max_threads", lambda: 1)())


def values(array: Any, places: np.ndarray) -> np.ndarray:
    """A copy of some values of an array, by their places in memory."""
    mx.nd.waitall()
    numbers = np.prod(array.shape, dtype=int)
    room = (ctypes.c_char * (numbers * np.dtype(array.dtype).itemsize)).from_address(address(array))
    return np.frombuffer(room, array.dtype)[places]


def gradients(grad: Any, weight: Any, delta: Any, spec: Spec) -> tuple[Any, Any]:
    """The gradients of W and D', given that of W'."""
    found = [mx.nd.empty(array.shape, array.context, array.dtype) for array in (weight, delta)]
    room = np.empty(delta.shape, delta.dtype)
    mx.nd.waitall()
    native.differentiate(
        *_call(weight, spec),
        weight=address(weight), delta=address(delta), grad=address(grad),
        transposed=room.ctypes.data, grad_weight=address(found[0]), grad_delta=address(found[1]),
    )  # fmt: skip
    return found[0], found[1]


def compose(weight: Any, delta: Any, composed: Any, spec: Spec) -> None:
    """Write W' into an array."""
    mx.nd.waitall()
    native.compose(
        *_call(weight, spec),
        weight=address(weight), delta=address(delta), composed=address(composed),
    )  # fmt: skip


def _call(weight: Any, spec: Spec) -> tuple[Any, ...]:
    """The dtype, threads, sizes and `is_added` of a call of the loops."""
    sizes = spec.groups, spec.group_rows, spec.group_channels, spec.d_mul, spec.area
    return name_of(weight), threads(), sizes, True
