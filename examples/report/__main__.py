"""Write the page of results and its pictures from the files of the runs: `make results`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from matplotlib.figure import Figure

from do_conv.figures import draw_curves
from do_conv.files import replacing
from examples.records import RESULTS
from examples.report import page, runs

DOCS = Path(__file__).parents[2] / "docs"


def main(arguments: list[str] | None = None) -> int:
    """Read the runs, draw, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--docs", type=Path, default=DOCS)
    given = parser.parse_args(arguments)
    found = runs.load(given.results)
    pictures = {}
    for name, one in sorted(found.items()):
        if one.runs["plain"] and one.runs["do-conv"]:
            pictures[name] = f"images/results/{name}.png"
            _draw(given.docs / pictures[name], name, one)
    with replacing(given.docs / "results.md") as beside:
        beside.write_text(page.page(found, pictures), encoding="utf-8")
    return 0


def _draw(path: Path, name: str, one: runs.Experiment) -> None:
    """Both arms' test accuracy by epoch, as in Figure 5."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axes = figure.subplots()
    draw_curves(axes, {arm: list(by_seed.values()) for arm, by_seed in one.runs.items()})
    axes.set_title(name)
    with replacing(path) as beside:
        figure.savefig(beside, dpi=120, metadata={"Software": None})


if __name__ == "__main__":
    sys.exit(main())
