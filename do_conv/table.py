"""Tables for a person: no wider than a terminal of 80 columns, with counts in three figures."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

WIDTH = 80
_GAP = 2
# Names that do not fit get a line of their own above their row.
_LEAST_NAME = 4
_UNITS = "kMGTPEZYRQ"


def rounded(number: int) -> str:
    """A count in three figures with its unit, such as `1.82 G`; below a thousand, all of it."""
    if number < 1000:
        return str(number)
    figures, exponent = f"{number:.2e}".split("e")
    thousands, tens = divmod(int(exponent), 3)
    return f"{float(figures) * 10**tens:.{2 - tens}f} {_UNITS[thousands - 1]}"


def counted(number: int, what: str) -> str:
    """A number of things, such as `1 seed` or `3 seeds`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def wrapped(text: str, first: str = "", later: str = "") -> str:
    """A paragraph in lines of at most 80 columns, with indents; names are never divided."""
    return textwrap.fill(
        text, WIDTH, initial_indent=first, subsequent_indent=later,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def lines(rows: Sequence[tuple[Sequence[str], Sequence[str]]]) -> list[list[str]]:
    """Each row's lines, in columns.

    Args:
        rows: the texts of each row, to be set to the left, and its numbers, to the right. A row
            with fewer texts than the first has its last one across the other columns.
    """
    numbers = _numbers([row[1] for row in rows])
    room = WIDTH - len(numbers[0]) - _GAP
    starts = _starts([row[0] for row in rows], room)
    texts = [_texts(row[0], starts, room) for row in rows]
    end = max(len(text[-1]) for text in texts) + _GAP
    return [
        [*text[:-1], (text[-1].ljust(end) + number).rstrip()]
        for text, number in zip(texts, numbers, strict=True)
    ]


def _numbers(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        (" " * _GAP).join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]


def _starts(rows: Sequence[Sequence[str]], room: int) -> list[int]:
    """Where each column of texts begins: as far to the left as the longest texts let it.

    Where there is no room for these, it is the first column, of names, that is narrow.
    """
    whole = [row for row in rows if len(row) == len(rows[0])]
    first, *rest = ([len(cell) + _GAP for cell in column] for column in zip(*whole, strict=True))
    widths = [max(column) for column in rest]
    names = max(min(max(first), room + _GAP - sum(widths)), _LEAST_NAME)
    return [0, *(names + sum(widths[:place]) for place in range(len(widths)))]


def _texts(cells: Sequence[str], starts: Sequence[int], room: int) -> list[str]:
    """The texts of a row; one that would run into the next, or the numbers, ends a line."""
    lines = [""]
    for cell, start in zip(cells, starts, strict=False):
        begins = max(min(start, room - len(cell)), 0)
        if lines[-1] and len(lines[-1]) + _GAP > begins:
            lines.append("")
        lines[-1] = lines[-1].ljust(begins) + cell
    return lines if len(lines[-1]) <= room else [*lines, ""]
