"""The C loops that compose and train kernels on a CPU, called on pointers, without any framework.

loops.c   W' from W and D', and the gradients of both from that of W'
step.c    a whole step of SGD or Adam: gradients, update, and W' composed anew
eight.h   the same for 3 x 3, eight channels at a time
lanes.h   what both are made of: products of many small matrices

They are compiled when the package is installed, once for each type of number. They read each array
once, and add the identity part in the same pass: no framework has an operator that multiplies rows
of nine numbers as fast as they can be read. Without a C compiler `LIBRARIES` is empty, and
frameworks compose with their own operators.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
from collections.abc import Sequence
from pathlib import Path

DTYPES = ("float32", "float64")
LANES = {"float32": 8, "float64": 4}  # numbers in a vector
ROWS = 4  # rows of a group per pass of the loops
WIDEST = 49  # slots or kernel positions, by the benchmark of composition: 7 x 7
FOLDER = Path(__file__).parent


class _Job(ctypes.Structure):
    """The arguments of a function in `loops.c`, in its order."""

    _fields_ = [
        *[(name, ctypes.c_void_p) for name in ("weight", "delta", "grad", "transposed")],
        *[(name, ctypes.c_void_p) for name in ("composed", "grad_weight", "grad_delta")],
        *[(name, ctypes.c_int64) for name in ("groups", "rows", "channels", "slots", "area")],
        *[(name, ctypes.c_int) for name in ("is_added", "is_last")],
    ]


class Rule(ctypes.Structure):
    """How a step updates an array, in the terms of `torch.optim`; the rest is zero.

    Both: rate, scale (a factor of the gradient), decay. Adam: is_adam, is_decoupled (as AdamW's
    decay is), beta1, beta2, epsilon, and correction1 and correction2, `1 - beta**t`. SGD: momentum,
    added (a factor of what the momentum takes up), is_nesterov, is_first (there is no momentum
    before this step).
    """

    _fields_ = [
        *[(n, ctypes.c_int) for n in ("is_adam", "is_first", "is_nesterov", "is_decoupled")],
        *[(n, ctypes.c_double) for n in ("rate", "scale", "decay", "momentum", "added")],
        *[(n, ctypes.c_double) for n in ("beta1", "beta2", "epsilon")],
        *[(n, ctypes.c_double) for n in ("correction1", "correction2")],
    ]


class Step(ctypes.Structure):
    """The work of `step` on a kernel whose D_mul is |K|.

    weight, delta: the addresses of W `(groups, rows, channels, area)` and D' `(groups, channels,
    area, area)`, which are updated. grad: of the gradient of W'. composed: where W' is written.
    weight_state, delta_state: the addresses of the momentum of SGD, if there is one, or of the two
    averages of Adam; each as large as its array. rows, channels: of a group. area: |K|.
    is_last: whether W' and its gradient are channels last (see `can_be_last`). weight_rule,
    delta_rule: how W and D' are updated. Every other array is contiguous.
    """

    _fields_ = [
        *[(name, ctypes.c_void_p) for name in ("weight", "delta", "grad", "composed")],
        *[(name, ctypes.c_void_p * 2) for name in ("weight_state", "delta_state")],
        *[(name, ctypes.c_int64) for name in ("groups", "rows", "channels", "area")],
        ("is_last", ctypes.c_int),
        *[(name, Rule) for name in ("weight_rule", "delta_rule")],
    ]


def files() -> dict[str, Path]:
    """The library of each dtype, compiled from this source, whether it is there or not."""
    sources = [path.read_bytes() for path in sorted(FOLDER.glob("*.[ch]"))]
    version = hashlib.sha256(b"".join(sources)).hexdigest()[:8]
    return {dtype: FOLDER / f"_loops_{dtype}_{version}.so" for dtype in DTYPES}


def _libraries() -> dict[str, ctypes.CDLL]:
    """The library of each dtype; none where it was not compiled, or there is no OpenMP."""
    found: dict[str, ctypes.CDLL] = {}
    with contextlib.suppress(OSError):  # everything works without them, more slowly
        found.update({dtype: ctypes.CDLL(str(path)) for dtype, path in files().items()})
    return found


# Import a framework with its own OpenMP first: then both share its threads.
LIBRARIES = _libraries()


def described() -> str:
    """Whether the loops are there, in a few words; if they cannot be loaded, the system's reason.

    A framework that is imported first may bring the OpenMP that the system lacks.
    """
    if LIBRARIES:
        return "compiled"
    for path in files().values():
        if not path.exists():
            return "none: not compiled"
        try:
            ctypes.CDLL(str(path))
        except OSError as error:
            return f"none: {error}"
    return "compiled"


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
    is_last: bool = False,
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
        is_last: whether W and W' are channels last (see `can_be_last`).
    """
    job = _Job(weight, delta, None, None, composed, None, None, *sizes, is_added, is_last)
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
    is_last: bool = False,
) -> None:
    """Write the gradients of W and D', given that of what `compose` writes.

    Args:
        dtype, threads, sizes, is_added, weight, delta: as for `compose`.
        grad: the address of the gradient of W'.
        transposed: room for an array of the size of D'.
        grad_weight, grad_delta: where to write; None for a gradient that is not needed.
        is_last: whether W, W' and their gradients are channels last (see `can_be_last`).
    """
    job = _Job(
        weight, delta, grad, transposed, None, grad_weight, grad_delta, *sizes, is_added, is_last
    )
    LIBRARIES[dtype].differentiate(ctypes.byref(job), threads)


def can_step(dtype: str, area: int) -> bool:
    """Whether `step` rounds as `compose` does: the |K| positions of a kernel fill a vector."""
    return area >= LANES[dtype]


def can_be_last(dtype: str, channels: int, area: int) -> bool:
    """Whether kernels with D_mul = |K| may be channels last: `(C_out, *K, channels)` in memory.

    Args:
        dtype: "float32" or "float64".
        channels: the input channels of a group.
        area: |K|.
    """
    return dtype == "float32" and area == 9 and channels % LANES[dtype] == 0


def step(dtype: str, threads: int, steps: Sequence[Step]) -> None:
    """Step W and D' of some kernels, and write each W'.

    Args:
        dtype: "float32" or "float64", of every array.
        threads: how many to use.
        steps: the kernels.
    """
    LIBRARIES[dtype].step((Step * len(steps))(*steps), ctypes.c_int64(len(steps)), threads)
