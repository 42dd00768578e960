"""The tables in hand-written pages, and the site's first page, which is the README's text."""

from __future__ import annotations

import re
from collections.abc import Callable

from examples.report import of_d, sensitivity
from pictures import costs, gains, versions

BLOCKS: dict[str, Callable[[], str]] = {
    "gains": gains.gains,
    "gains of the paper": gains.of_the_paper,
    "gains by layers": lambda: gains.of_variants(sensitivity.LAYERS, gains.STAGES),
    "gains by d_mul": lambda: gains.of_variants(of_d.D_MULS, of_d.D_MULS),
    "gains by start": lambda: gains.of_variants(of_d.STARTS, of_d.STARTS),
    "costs": costs.by_framework,
    "by estimate": costs.by_estimate,
    "costs by door": costs.by_door,
    "between steps": costs.between_steps,
    "optimizers": costs.optimizers,
    "parts": costs.parts,
    "memory": costs.memory,
    "growth by batch": lambda: costs.growth("batch"),
    "growth by d_mul": lambda: costs.growth("d_mul"),
    "versions": versions.versions,
}
_BLOCK = re.compile(r"<!-- (?P<name>[\w ]+): from results -->\n.*?<!-- end -->", re.DOTALL)
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)]+)\)")
_WRITTEN = "<!-- Written by `make pictures` from README.md: change it there. -->\n\n"


def filled(page: str) -> str:
    """A page with its tables made anew."""

    def block(match: re.Match[str]) -> str:
        name = match["name"]
        return f"<!-- {name}: from results -->\n\n{BLOCKS[name]()}\n<!-- end -->"

    return _BLOCK.sub(block, page)


def first_page(readme: str) -> str:
    """The README as a page of `docs`: links start there, and those that lead out of it are text."""

    def link(match: re.Match[str]) -> str:
        picture, text, target = match.groups()
        if target.startswith("docs/"):
            return f"{picture}[{text}]({target.removeprefix('docs/')})"
        return match[0] if target.startswith(("https:", "#")) else text

    return _WRITTEN + _LINK.sub(link, readme)
