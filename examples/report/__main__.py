"""Write the pages of results and their pictures from the files of the runs: `make results`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from do_conv.figures import change_picture, draw_curves
from do_conv.files import replacing
from examples import doors
from examples.records import RESULTS
from examples.report import page, paper, rates, runs, sensitivity, tasks
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
        results = page.page(found, pictures(found))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    for name in alone(found):
        print(f"{name} is compared with no plain runs: none has its settings", file=sys.stderr)
    _draw_all(given.docs, found)
    with replacing(given.docs / "results.md") as beside:
        beside.write_text(results, encoding="utf-8")
    if studied:
        with replacing(given.docs / "when-it-helps.md") as beside:
            text = sensitivity.page(studied, paper.by_depth(), rates.section(found))
            beside.write_text(text, encoding="utf-8")
    return 0


def alone(found: Mapping[str, runs.Experiment]) -> list[str]:
    """The experiments with whole do-conv runs, but without plain runs of the same settings."""
    return [
        name for name, one in sorted(found.items())
        if one.runs["do-conv"] and not one.runs["plain"]
    ]  # fmt: skip


def pictures(found: Mapping[str, runs.Experiment]) -> dict[str, list[str]]:
    """The paths of each experiment's pictures from the page: its curves, and its heat map.

    Those of the two doors would look the same: the optimizer's are left out.
    """
    paths: dict[str, list[str]] = {}
    for name, one in sorted(found.items()):
        if one.door == doors.OPTIMIZER and name.removesuffix(f"-{doors.OPTIMIZER}") in found:
            continue
        if one.runs["plain"] and one.runs["do-conv"]:
            paths[name] = [f"images/results/{name}.svg"]
        if one.kernel_change:
            paths.setdefault(name, []).append(f"images/results/{name}{_HEAT_MAP}")
    return paths


_HEAT_MAP = "-heatmap.png"


def _draw_all(docs: Path, found: Mapping[str, runs.Experiment]) -> None:
    (docs / "images" / "results").mkdir(parents=True, exist_ok=True)
    for name, paths in pictures(found).items():
        for path in paths:
            if path.endswith(_HEAT_MAP):
                changes = {
                    layer: np.array(change) for layer, change in found[name].kernel_change.items()
                }
                change_picture(docs / path, changes)
            else:
                _draw(docs / path, name, found[name])


def _draw(path: Path, name: str, one: runs.Experiment) -> None:
    """Both arms' test accuracy, or other measure, by epoch, as in Figure 5."""
    with picture(path, figsize=(6, 3.2)) as figure:
        axes = figure.subplots()
        seeds = runs.gains(one)  # those of the tables
        draw_curves(axes, {arm: [by_seed[s] for s in seeds] for arm, by_seed in one.runs.items()})
        axes.set(title=name, ylabel=tasks.shown(one))


if __name__ == "__main__":
    sys.exit(main())
