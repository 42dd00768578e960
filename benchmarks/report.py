"""What was measured, as tables: one for each file of results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

RESULTS = Path(__file__).parent / "results"


class Table(NamedTuple):
    """Cells, and what stands over them."""

    name: str
    command: str
    about: str
    heads: list[str]
    lines: list[list[str]]


def table(path: Path) -> Table:
    """The table of a file; a line's times are in milliseconds, with their ratio to the first."""
    report = json.loads(path.read_text(encoding="utf-8"))
    machine, rows = report["machine"], report["rows"]
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    about = f"{report['date']}, {machine['processor']}, {machine['threads']} threads; {versions}"
    sizes = list(dict.fromkeys(key for row in rows for key in row if key != "found"))
    names = list(dict.fromkeys(name for row in rows for name in row["found"]))
    lines = [
        [str(row.get(key, "")) for key in sizes] + [_cell(row["found"].get(name)) for name in names]
        for row in rows
    ]
    name, _, framework = path.stem.partition("-")
    command = f"python -m benchmarks {name} --frameworks {framework}"
    command += " --quick" if report["quick"] else ""
    return Table(path.stem, command, about, [*sizes, *names], lines)


def _cell(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    if "seconds" not in found:
        return ", ".join(f"{_number(value)} {unit}" for unit, value in found.items())
    if "ratio" not in found:
        return _number(1000 * found["seconds"])
    low, high = (_number(1000 * second) for second in found["middle_half"])
    return f"{_number(1000 * found['seconds'])} ({low} to {high}), {found['ratio']:.2f}"


def _number(value: float) -> str:
    """Three digits, or all of a large one."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
