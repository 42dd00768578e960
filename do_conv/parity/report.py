"""The report of a comparison: a table for a person, JSON for a program."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from do_conv.parity import doors
from do_conv.parity.comparison import DOORS, TOLERANCES, TRAINING, Result
from do_conv.parity.layer import QUANTITIES

# The columns of a terminal of 80 beside the quantities, and those between two frameworks.
_ROOM, _GAP = 58, 3


def worst(results: Iterable[Result]) -> Result:
    """The result with the largest error."""
    return max(results, key=lambda result: -1.0 if result.error is None else result.error)


def table(
    results: list[Result], versions: dict[str, str], missing: dict[str, str]
) -> RenderableType:
    """A table for each precision: a column for each framework, its worst error and worst case.

    `missing` has the sentence for each framework that could not be used.
    """
    parts: list[RenderableType] = []
    room = _ROOM // len([*versions, *missing] or [""]) - _GAP
    for dtype in dict.fromkeys(result.dtype for result in results):
        layer, training = TOLERANCES[dtype]
        own = " and ".join(dict.fromkeys(f"{one:g}" for one in doors.TOLERANCES[dtype]))
        shown = Table(
            title=f"{dtype}: largest error relative to the largest value "
            f"(allowed {layer:g}, after training {training:g}, in the optimizer {own})",
            box=box.SIMPLE_HEAVY,
            title_justify="left",
        )
        shown.add_column("quantity")
        for framework in (*versions, *missing):
            shown.add_column(versions.get(framework, framework))
        for quantity in (*QUANTITIES, TRAINING, *DOORS):
            cells = [_cell(results, name, dtype, quantity, room) for name in versions]
            shown.add_row(quantity, *cells, *("" for _ in missing))
        cases = [_cases(results, name, dtype) for name in versions]
        shown.add_row("cases", *cases, *("left out" for _ in missing))
        parts.append(shown)
    parts += [Text(f"{name} is left out: {reason}") for name, reason in missing.items()]
    return Group(*parts, verdict(results))


def verdict(results: list[Result]) -> Text:
    """A line that everything agrees, or a line for each quantity that does not."""
    failures = [result for result in results if not result.holds]
    if not results:
        return Text("Nothing was compared: there is no framework to compare.", "bold red")
    if all(result.error is None for result in results):
        return Text("Nothing was compared: these cases are not offered.", "bold red")
    if not failures:
        return Text("Every framework agrees with the core.", "bold green")
    lines = [
        f"{r.framework} {r.dtype} {r.case}: {r.quantity} is off by {r.error:.1e}, "
        f"allowed {r.tolerance:g}"
        for r in failures
    ]
    return Text("\n".join(["Not in agreement:", *lines]), "bold red")


def as_json(
    results: list[Result], versions: dict[str, str], missing: dict[str, str], *, agrees: bool
) -> dict[str, Any]:
    """Everything that was compared, for a program."""
    return {
        "agrees": agrees,
        "versions": versions,
        "not_installed": list(missing),
        "left_out": missing,
        "tolerances": {
            dtype: {"layer": layer, "training": training, "optimizer": doors.TOLERANCES[dtype]}
            for dtype, (layer, training) in TOLERANCES.items()
        },
        "results": [
            {**vars(r), "error": _finite(r.error), "offered": r.reason is None, "holds": r.holds}
            for r in results
        ],
    }


def _finite(error: float | None) -> float | None:
    """JSON has no infinity: an error that is not finite is null, and does not hold."""
    return error if error is not None and math.isfinite(error) else None


def _of(results: list[Result], framework: str, dtype: str) -> list[Result]:
    return [r for r in results if (r.framework, r.dtype) == (framework, dtype)]


def _cell(results: list[Result], framework: str, dtype: str, quantity: str, room: int) -> Text:
    """The largest error and its case, in lines of `room` columns."""
    chosen = [r for r in _of(results, framework, dtype) if r.quantity == quantity]
    if not chosen:
        return Text("-", "dim")
    most = worst(chosen)
    if most.error is None:
        return Text("not offered", "dim")
    shown = f"{most.error:.1e}  {most.case}"
    if len(shown) > room:  # rich would break a name at any character
        shown = "\n".join([f"{most.error:.1e}", *textwrap.wrap(most.case, room)])
    return Text(shown, "" if most.holds else "bold red")


def _cases(results: list[Result], framework: str, dtype: str) -> str:
    mine = [r for r in _of(results, framework, dtype) if r.quantity not in (TRAINING, *DOORS)]
    absent = sum(r.error is None for r in mine)
    compared = {r.case for r in mine if r.error is not None}
    return f"{len(compared)} compared\n{absent} not offered"
