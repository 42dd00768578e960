"""Formulas as pictures in the page: a hook of MkDocs (`hooks` in mkdocs.yml).

A page writes TeX between dollar signs, as GitHub shows it too. The built page has SVG instead: it
needs no script, no font and no network.
"""

from __future__ import annotations

import functools
import html
import re
from typing import Any
from xml.etree import ElementTree

import ziamath
from mkdocs.exceptions import PluginError

# As the Markdown extension arithmatex marks them.
FORMULA = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\[(\[](?P<tex>.*?)\\[)\]]</(?P=tag)>', re.DOTALL
)
SIZE = 24  # of the drawing, which the page scales to the size of its text

ziamath.config.svg2 = False  # paths alone: no names that two formulas of a page share
ziamath.config.precision = 2


def on_page_content(content: str, /, *, page: Any, **_: Any) -> str:
    """The page's HTML with drawn formulas in place of TeX."""

    def formula(found: re.Match[str]) -> str:
        tex = " ".join(html.unescape(found["tex"]).split())
        inline = found["tag"] == "span"
        try:
            drawn = drawing(tex, inline)
        except Exception as error:
            raise PluginError(f"{page.file.src_path}: {tex!r}: {error!r}") from error
        return drawn if inline else f'<div class="formula">{drawn}</div>'

    return FORMULA.sub(formula, content)


@functools.cache
def drawing(tex: str, inline: bool) -> str:
    """A formula as SVG, on the line of the text and in its colour."""
    svg = ziamath.Latex(tex, size=SIZE, inline=inline, color="currentColor").svgxml()
    _, top, width, height = (float(number) / SIZE for number in svg.attrib["viewBox"].split())
    svg.attrib.update({
        "class": "formula", "role": "img", "aria-label": tex,
        "width": f"{width:.3f}em", "height": f"{height:.3f}em",
        "style": f"vertical-align: {-(top + height):.3f}em",
    })  # fmt: skip
    return ElementTree.tostring(svg, encoding="unicode")
