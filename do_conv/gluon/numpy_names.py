"""Names that MXNet 1.9.1, the last release, reads from NumPy and NumPy has removed since.

MXNet reads them while it is imported, so they are set before that, and only where they are gone:
`bool` since NumPy 1.24; the others since NumPy 2. GluonCV also reads `int` and `float` when its
models and transforms are used. The six financial functions were removed long ago: MXNet only lists
them, so a stand-in that raises is enough. This module may go when MXNet does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

_FINANCIAL = ("mirr", "npv", "pmt", "ppmt", "pv", "rate")


def _gone(name: str) -> Callable[..., NoReturn]:
    def stand_in(*_args: Any, **_kwargs: Any) -> NoReturn:
        raise NotImplementedError(f"numpy.{name} was removed from NumPy; use numpy_financial.")

    return stand_in


def _msort(array: Any) -> Any:
    return np.sort(array, axis=0)


def _removed_names() -> dict[str, Any]:
    return {
        "bool": bool,
        "int": int,
        "float": float,
        "PZERO": 0.0,
        "NZERO": -0.0,
        "PINF": np.inf,
        "NINF": -np.inf,
        "Inf": np.inf,
        "NAN": np.nan,
        "NaN": np.nan,
        "alltrue": np.all,
        "sometrue": np.any,
        "product": np.prod,
        "round_": np.round,
        "in1d": np.isin,
        "msort": _msort,
        # NumPy 2 renamed it; asking an older NumPy for the new name would fail.
        "trapz": np.__dict__.get("trapezoid", np.__dict__.get("trapz")),
        **{name: _gone(name) for name in _FINANCIAL},
    }


def restore() -> None:
    """Set every removed name that NumPy does not have; a name that is there stays as it is."""
    for name, value in _removed_names().items():
        # `hasattr` would run NumPy's own `__getattr__`, which warns or raises for these names.
        if name not in np.__dict__:
            setattr(np, name, value)
