"""Kernels, patches and outputs as blocks of cubes: the input channels lie behind each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pictures.drawing import BLUE, CARD, GREEN, INK, MUTED, ORANGE, Colour, Drawing, Point

CHANNELS = (BLUE, ORANGE, GREEN)
CELL = 25.0
STEP = 14.0  # from one input channel to the one behind it, to the right and up
DEPTH = 10.0  # of a cube
SYMBOL = 24.0
_WHITE = Colour((255, 255, 255), (255, 255, 255))
_BLACK = Colour((0, 0, 0), (0, 0, 0))
Shade = Callable[[int, int], float]


def by_output(row: int, _: int) -> float:
    """Output channels are rows: every second is lighter."""
    return (1.0, 0.55)[row % 2]


def even(_row: int, _column: int) -> float:
    """Every cube alike."""
    return 0.75


def identity(row: int, column: int) -> float:
    """Ones on the diagonal; elsewhere next to nothing."""
    return 1.0 if row == column else 0.16


@dataclass(frozen=True)
class Block:
    """Cubes in rows and columns, with one layer of them for each input channel.

    Attributes:
        name: the symbol below it.
        notes: lines of text below the symbol.
        shade: how much of its channel's colour the cube in a row and column has.
        channels: the colours, the first in front.
    """

    name: str
    rows: int
    columns: int
    shade: Shade = even
    notes: tuple[str, ...] = ()
    channels: tuple[Colour, ...] = CHANNELS
    cell: float = CELL

    @property
    def width(self) -> float:
        """With what lies behind."""
        return self.columns * self.cell + (len(self.channels) - 1) * STEP + DEPTH

    @property
    def height(self) -> float:
        """With what lies behind."""
        return self.rows * self.cell + (len(self.channels) - 1) * STEP + DEPTH

    def draw(self, drawing: Drawing, left: float, middle: float, base: float) -> None:
        """Draw it from `left`, its front around the height `middle`, its name at `base`."""
        top = middle - self.rows * self.cell / 2 + (self.height - self.rows * self.cell) / 2
        for index in reversed(range(len(self.channels))):
            corner = left + index * STEP, top - index * STEP
            for row in reversed(range(self.rows)):
                for column in range(self.columns):
                    where = corner[0] + column * self.cell, corner[1] + row * self.cell
                    self._cube(drawing, where, self.channels[index], self.shade(row, column))
        centre = left + self.columns * self.cell / 2
        drawing.text((centre, base), self.name, SYMBOL, INK, serif=True)
        for line, note in enumerate(self.notes, 1):
            drawing.text((centre, base + 3 + 20 * line), note, 16, MUTED)

    def _cube(self, drawing: Drawing, corner: Point, channel: Colour, shade: float) -> None:
        (x, y), cell, depth = corner, self.cell, DEPTH
        right, low = x + cell, y + cell
        front = channel.mixed(CARD, shade)
        edge = CARD if shade > 0.3 else channel.mixed(CARD, 0.6)
        top, side = front.mixed(_WHITE, 1 - 0.2 * shade), front.mixed(_BLACK, 1 - 0.2 * shade)
        drawing.polygon(
            [(x, y), (x + depth, y - depth), (right + depth, y - depth), (right, y)], top, edge
        )
        drawing.polygon(
            [(right, y), (right + depth, y - depth), (right + depth, low - depth), (right, low)],
            side, edge,
        )  # fmt: skip
        drawing.polygon([(x, y), (right, y), (right, low), (x, low)], front, edge)
