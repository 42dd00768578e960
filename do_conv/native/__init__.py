"""The C loops that compose kernels on a CPU, called on pointers, without any framework.

`loops.c` is compiled when the package is installed, once for each type of number. It reads each
array once, and adds the identity part in the same pass: no framework has an operator that
multiplies rows of nine numbers as fast as they can be read. Without a C compiler `LIBRARIES` is
empty, and frameworks compose with their own operators.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
from pathlib import Path

DTYPES = ("float32", "float64")
ROWS = 4  # the loops take so many rows of a group at a time
WIDEST = 49  # slots or kernel positions, by the benchmark of composition: 7 x 7
SOURCE = Path(__file__).with_name("loops.c")


class _Job(ctypes.Structure):
    """The arguments of a function in `loops.c`, in its order."""

    _fields_ = [
        *[(name, ctypes.c_void_p) for name in ("weight", "delta", "grad", "transposed")],
        *[(name, ctypes.c_void_p) for name in ("composed", "grad_weight", "grad_delta")],
        *[(name, ctypes.c_int64) for name in ("groups", "rows", "channels", "slots", "area")],
        ("is_added", ctypes.c_int),
    ]


def _libraries() -> dict[str, ctypes.CDLL]:
    """The library of each dtype, compiled from this source; none where that was not possible."""
    found = {}
    with contextlib.suppress(OSError):  # without them everything works, only slower
        version = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:8]
        for dtype in DTYPES:
            found[dtype] = ctypes.CDLL(str(SOURCE.with_name(f"_loops_{dtype}_{version}.so")))
    return found


# A framework that brings its own OpenMP is imported first: then both share its threads.
LIBRARIES = _libraries()


def pays(rows: int, slots: int, area: int) -> bool:
    """Whether the loops are fast for these sizes: the rows of a group, D_mul and |K|."""
    return rows >= ROWS and max(slots, area) <= WIDEST


def compose(
    dtype: str,
    threads: int,
    sizes: tuple[int, int, int, int, int],
    is_added: bool,
    *,
    weight: int,
    delta: int,
    composed: int,
) -> None:
    """Write W D', and W + W D' if `is_added`.

    Args:
        dtype: "float32" or "float64", of every array.
        threads: how many to use.
        sizes: G, the rows of a group, the channels of a group, D_mul and |K|.
        is_added: whether W is added, which is then of the shape of W'.
        weight, delta: addresses of W `(G, rows, channels, D_mul)` and D' `(G, channels, D_mul,
            |K|)`, contiguous.
        composed: where to write, `(G, rows, channels, |K|)`.
    """
    job = _Job(weight, delta, None, None, composed, None, None, *sizes, is_added)
    LIBRARIES[dtype].compose(ctypes.byref(job), threads)


def differentiate(
    dtype: str,
    threads: int,
    sizes: tuple[int, int, int, int, int],
    is_added: bool,
    *,
    weight: int,
    delta: int,
    grad: int,
    transposed: int,
    grad_weight: int | None,
    grad_delta: int | None,
) -> None:
    """Write the gradients of W and D', given that of what `compose` writes.

    Args:
        dtype, threads, sizes, is_added, weight, delta: as for `compose`.
        grad: the address of the gradient of W'.
        transposed: room for an array of the size of D'.
        grad_weight, grad_delta: where to write; None for a gradient that is not needed.
    """
    job = _Job(weight, delta, grad, transposed, None, grad_weight, grad_delta, *sizes, is_added)
    LIBRARIES[dtype].differentiate(ctypes.byref(job), threads)
