"""An SVG drawing that is light or dark, as the page around it is.

Colours are classes with a value for each scheme, and positions are written with one decimal, so
that the same drawing is the same bytes everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import NamedTuple

SANS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', Arial, sans-serif"
SERIF = "Cambria, Georgia, 'Times New Roman', 'DejaVu Serif', serif"
Point = tuple[float, float]


class Colour(NamedTuple):
    """A colour in the light and in the dark scheme, each as red, green and blue."""

    light: tuple[int, int, int]
    dark: tuple[int, int, int]

    def mixed(self, other: Colour, share: float) -> Colour:
        """So much of this colour, and the rest of the other."""
        return Colour(*(
            tuple(round(share * a + (1 - share) * b) for a, b in zip(ours, theirs, strict=True))
            for ours, theirs in zip(self, other, strict=True)
        ))  # fmt: skip


def of_hex(light: str, dark: str) -> Colour:
    """A colour of two hexadecimal ones."""
    return Colour(*(tuple(bytes.fromhex(one)) for one in (light, dark)))  # type: ignore[arg-type]


CARD = of_hex("ffffff", "161b22")  # a drawing brings its background: it is readable on any page
INK = of_hex("1f2328", "e6edf3")
MUTED = of_hex("59636e", "9ba5b0")
RULE = of_hex("d1d9e0", "3d444d")
BLUE = of_hex("0a6fc2", "4aa8f0")
ORANGE = of_hex("d9730d", "f0993e")
GREEN = of_hex("2a9158", "4fc27f")


class Drawing:
    """Shapes on a card, in the order in which they are added."""

    def __init__(self, width: int, height: int, title: str, description: str) -> None:
        self.size = width, height
        self.title, self.description = title, description
        self._colours: dict[Colour, str] = {}
        self._shapes: list[str] = []

    def polygon(self, points: Iterable[Point], fill: Colour, edge: Colour | None = None) -> None:
        """A closed outline, filled."""
        path = " ".join(f"{_number(x)},{_number(y)}" for x, y in points)
        stroke = f" s{self._name(edge)}" if edge else ""
        self._shapes.append(f'<polygon class="f{self._name(fill)}{stroke}" points="{path}"/>')

    def rectangle(
        self, corner: Point, size: Point, fill: Colour | None = None, *, edge: Colour | None = None,
        radius: float = 0, dashed: bool = False,
    ) -> None:  # fmt: skip
        """A rectangle from its upper left corner."""
        classes = f"f{self._name(fill)}" if fill else "none"
        classes += f" s{self._name(edge)}" if edge else ""
        x, y, width, height = map(_number, (*corner, *size))
        more = f' rx="{_number(radius)}"' if radius else ""
        more += ' stroke-dasharray="5 4"' if dashed else ""
        self._shapes.append(
            f'<rect class="{classes}" x="{x}" y="{y}" width="{width}" height="{height}"{more}/>'
        )

    def line(self, start: Point, end: Point, colour: Colour = INK, width: float = 1.5) -> None:
        """A straight line."""
        x1, y1, x2, y2 = map(_number, (*start, *end))
        self._shapes.append(
            f'<line class="s{self._name(colour)}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" '
            f'style="stroke-width:{_number(width)}"/>'
        )

    def circle(self, centre: Point, radius: float, colour: Colour = INK) -> None:
        """A ring."""
        x, y, size = map(_number, (*centre, radius))
        self._shapes.append(
            f'<circle class="none s{self._name(colour)}" cx="{x}" cy="{y}" r="{size}" '
            'style="stroke-width:2"/>'
        )

    def arrow(self, start: Point, end: Point, colour: Colour = MUTED) -> None:
        """A line with a head at its end; it runs along an axis."""
        (x, y), (left, up) = end, ((end[0] > start[0]) - (end[0] < start[0]),
                                   (end[1] > start[1]) - (end[1] < start[1]))  # fmt: skip
        back, half = 11, 5
        neck = (x - back * left, y - back * up)
        self.line(start, neck, colour, 2)
        sides = [(neck[0] + turn * half * up, neck[1] + turn * half * left) for turn in (1, -1)]
        self.polygon([end, *sides], colour)

    def text(
        self, where: Point, text: str, size: float = 17, colour: Colour = INK, *,
        anchor: str = "middle", bold: bool = False, serif: bool = False,
    ) -> None:  # fmt: skip
        """One line of text at its base line; serif is a symbol of mathematics, in italics."""
        x, y = map(_number, where)
        classes = f"f{self._name(colour)}" + (" m" if serif else "") + (" b" if bold else "")
        self._shapes.append(
            f'<text class="{classes}" x="{x}" y="{y}" font-size="{_number(size)}" '
            f'text-anchor="{anchor}">{escape(text)}</text>'
        )

    def _name(self, colour: Colour) -> str:
        return self._colours.setdefault(colour, str(len(self._colours)))

    def __str__(self) -> str:
        width, height = self.size
        card = self._name(CARD)
        return "\n".join([
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img" aria-labelledby="t d">',
            f'<title id="t">{escape(self.title)}</title>',
            f'<desc id="d">{escape(self.description)}</desc>',
            "<style>",
            f"text{{font-family:{SANS}}}.m{{font-family:{SERIF};font-style:italic}}",
            ".b{font-weight:600}.none{fill:none}",
            *self._rules(0),
            "@media (prefers-color-scheme: dark){",
            *self._rules(1),
            "}",
            "</style>",
            f'<rect class="f{card}" width="{width}" height="{height}" rx="8"/>',
            *self._shapes,
            "</svg>\n",
        ])  # fmt: skip

    def _rules(self, scheme: int) -> Iterable[str]:
        for colour, name in self._colours.items():
            value = f"#{bytes(colour[scheme]).hex()}"
            yield f".f{name}{{fill:{value}}}.s{name}{{stroke:{value}}}"


def _number(value: float) -> str:
    return f"{round(value, 1) + 0:.1f}".removesuffix(".0")
