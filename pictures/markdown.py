"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

KEEP = "\N{NO-BREAK SPACE}"  # keeps a cell on one line


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table, with a line break at its end."""
    rows = (head, ("---",) * len(head), *lines)
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
