"""Write the page of speed and its charts from the kept results: part of `make results`."""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import charts
from benchmarks.report import RESULTS, about, load, table
from benchmarks.words import AFTER, COMMON, FRAMEWORKS, GROWTH, HEAD, SECTIONS, TABLES
from do_conv.files import replacing
from pictures import markdown

PAGE = Path(__file__).parents[1] / "docs" / "speed.md"
NETWORKS, GROWTH_CHART = "images/speed/networks.svg", "images/speed/growth.svg"
# How a framework's networks are trained where nothing is said: the summary's rows.
MODES = {"gluon": "hybridized"}
# The summary's columns, and the contenders in the results.
SUMMARY = {**charts.BARS, "authors": "authors' formula"}


def main(arguments: list[str] | None = None) -> int:
    """Read, draw, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=PAGE)
    given = parser.parse_args(arguments)
    networks, growth = _trained(given.results), _growth(given.results)
    if networks:
        shown = {FRAMEWORKS[name]: rows for name, rows in networks.items()}
        charts.networks(given.page.parent / NETWORKS, shown)
    if growth:
        charts.growth(given.page.parent / GROWTH_CHART, growth)
    with replacing(given.page) as beside:
        beside.write_text(page(given.results), encoding="utf-8")
    return 0


def page(results: Path) -> str:
    """The page, in Markdown."""
    parts = [HEAD]
    if networks := _trained(results):
        parts += _summary(results, networks)
    if _growth(results):
        parts += [GROWTH]
    parts += [AFTER, TABLES]
    for name, title in FRAMEWORKS.items():
        paths = [results / f"{section}-{name}.json" for section in SECTIONS]
        if found := [path for path in paths if path.exists()]:
            parts += [f"<details markdown>\n<summary>{title}</summary>\n", *map(_section, found)]
            parts += ["</details>\n"]
    return "\n".join(parts)


def _trained(results: Path) -> dict[str, list[dict[str, Any]]]:
    """By framework, the training steps of networks in its usual mode."""
    found = {}
    for name in FRAMEWORKS:
        path = results / f"networks-{name}.json"
        if path.exists():
            rows = [row for row in load(path)["rows"] if row["step"] == "training"]
            mode = MODES.get(name, rows[0]["mode"])
            found[name] = [row for row in rows if row["mode"] == mode]
    return found


def _growth(results: Path) -> list[dict[str, Any]]:
    path = results / "growth-torch.json"
    return load(path)["rows"] if path.exists() else []


def _summary(results: Path, networks: Mapping[str, list[dict[str, Any]]]) -> Iterator[str]:
    yield "## Whole networks\n"
    for name, rows in networks.items():
        ratios = [row["found"]["DO-Conv"]["ratio"] for row in rows]
        where = about(load(results / f"networks-{name}.json"))
        yield (
            f"- **{FRAMEWORKS[name]}**: a training step with DO-Conv layers takes "
            f"{min(ratios):.2f} to {max(ratios):.2f} times\n  as long as that of the plain "
            f"network; the median of these {len(ratios)} is {statistics.median(ratios):.2f}\n"
            f"  ({rows[0]['mode']}; {where})."
        )
    yield f"\n![Training steps of networks, as multiples of the plain network's]({NETWORKS})\n"
    measured = {one for rows in networks.values() for row in rows for one in row["found"]}
    columns = [one for one in SUMMARY if one in measured]
    heads = ["network", "images", "batch", "plain, ms", *(SUMMARY[one] for one in columns)]
    for name, rows in networks.items():
        yield f"{FRAMEWORKS[name]}, `{rows[0]['mode']}`:\n"
        yield markdown.table(heads, [_line(row, columns) for row in rows])
    yield COMMON


def _line(row: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    found = row["found"]
    ratios = [f"x {found[one]['ratio']:.2f}" if one in found else "" for one in columns]
    size = f"{row['size']} x {row['size']}"
    return [row["network"], size, str(row["batch"]), f"{1000 * found['plain']['seconds']:.0f}",
            *ratios]  # fmt: skip


def _section(path: Path) -> str:
    found = table(path)
    name, _, framework = found.name.partition("-")
    title, text, own, chosen = SECTIONS[name]
    lines = [line for line in found.lines if chosen is None or chosen(found.heads, line)]
    text = "\n".join(filter(None, (text, own.get(framework))))
    parts = [f"**{title}.** {text}\n", f"```text\n{found.command}\n```\n", f"{found.about}\n"]
    for common, heads, some in found._replace(lines=lines).parts("step", "mode"):
        parts += [f"*{common}*\n"] if common else []
        parts += [markdown.table(heads, some)]
    return "\n".join(parts)


if __name__ == "__main__":
    sys.exit(main())
