"""What was measured, as tables: one for each file of results."""

from __future__ import annotations

import json
from collections.abc import Iterator
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

    def parts(self, *by: str) -> Iterator[tuple[str, list[str], list[list[str]]]]:
        """A smaller table for each value of the columns `by`, without columns that are empty.

        Yields:
            what the lines have in common, their heads, and the lines.
        """
        keys = [self.heads.index(head) for head in by if head in self.heads]
        groups: dict[tuple[str, ...], list[list[str]]] = {}
        for line in self.lines:
            groups.setdefault(tuple(line[key] for key in keys), []).append(line)
        for common, lines in groups.items():
            columns = [index for index in range(len(self.heads))
                       if index not in keys and any(line[index] for line in lines)]  # fmt: skip
            yield (
                ", ".join(filter(None, common)),
                [self.heads[index] for index in columns],
                [[line[index] for index in columns] for line in lines],
            )


def load(path: Path) -> dict[str, Any]:
    """A file of results."""
    return json.loads(path.read_text(encoding="utf-8"))


def about(report: dict[str, Any]) -> str:
    """When, where and with what it was measured."""
    machine = report["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    return f"{report['date']}, {machine['processor']}, {machine['threads']} threads; {versions}"


def table(path: Path) -> Table:
    """The table of a file; a line's times are in milliseconds, with their ratio to the first."""
    report = load(path)
    rows = report["rows"]
    sizes = list(dict.fromkeys(key for row in rows for key in row if key != "found"))
    names = list(dict.fromkeys(name for row in rows for name in row["found"]))
    lines = [
        [_size(row.get(key, "")) for key in sizes]
        + [_cell(row["found"].get(name)) for name in names]
        for row in rows
    ]
    name, _, framework = path.stem.partition("-")
    command = f"python -m benchmarks {name} --frameworks {framework}"
    command += " --quick" if report["quick"] else ""
    return Table(path.stem, command, about(report), [*sizes, *names], lines)


def _size(value: Any) -> str:
    return _number(value) if isinstance(value, float) else str(value)


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
