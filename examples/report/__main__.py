"""Write the pages of results and their pictures from the files of the runs: `make results`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from do_conv.figures import change_picture, draw_curves
from do_conv.files import replacing
from examples.records import RESULTS
from examples.report import page, paper, runs, sensitivity, tasks
from examples.sensitivity.train import FOLDER
from pictures.plots import picture

DOCS = Path(__file__).parents[2] / "docs"


def main(arguments: list[str] | None = None) -> int:
    """Read the runs, draw, and write; runs that cannot be compared are one sentence."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--docs", type=Path, default=DOCS)
    given = parser.parse_args(arguments)
    try:
        found = runs.load(given.results)
        studied = runs.load(given.results / FOLDER)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    pictures: dict[str, list[str]] = {}
    (given.docs / "images" / "results").mkdir(parents=True, exist_ok=True)
    for name, one in sorted(found.items()):
        if one.runs["plain"] and one.runs["do-conv"]:
            pictures[name] = [f"images/results/{name}.svg"]
            _draw(given.docs / pictures[name][0], name, one)
        if one.kernel_change:
            pictures.setdefault(name, []).append(f"images/results/{name}-heatmap.png")
            changes = {layer: np.array(change) for layer, change in one.kernel_change.items()}
            change_picture(given.docs / pictures[name][-1], changes)
    with replacing(given.docs / "results.md") as beside:
        beside.write_text(page.page(found, pictures), encoding="utf-8")
    if studied:
        with replacing(given.docs / "when-it-helps.md") as beside:
            beside.write_text(sensitivity.page(studied, paper.by_depth()), encoding="utf-8")
    return 0


def _draw(path: Path, name: str, one: runs.Experiment) -> None:
    """Both arms' test accuracy, or other measure, by epoch, as in Figure 5."""
    with picture(path, figsize=(6, 3.2)) as figure:
        axes = figure.subplots()
        draw_curves(axes, {arm: list(by_seed.values()) for arm, by_seed in one.runs.items()})
        axes.set(title=name, ylabel=tasks.shown(one))


if __name__ == "__main__":
    sys.exit(main())
