"""The charts of the page of speed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pictures.plots import INK, picture

# The bars of a network: the contender in the results, and what it is called in the chart.
BARS = {"DO-Conv": "DO-Conv layers", "optimizer": "DO-Conv optimizer"}
COLOURS = ("tab:red", "tab:blue")
ROW = 0.36  # inches of a network's bars


def networks(path: Path, found: Mapping[str, Sequence[dict[str, Any]]]) -> None:
    """A bar for each network: its training step beside that of the plain network.

    Args:
        path: where the picture goes.
        found: the rows of results by the framework's name.
    """
    heights = [len(rows) for rows in found.values()]
    with picture(path, figsize=(7, 1 + ROW * sum(heights) + 0.35 * len(heights))) as figure:
        grid = figure.subplots(len(found), sharex=True, squeeze=False, height_ratios=heights)
        measured = {name for rows in found.values() for row in rows for name in row["found"]}
        shown = [name for name in BARS if name in measured]
        for axes, (title, rows) in zip(grid.flat, found.items(), strict=True):
            for index, name in enumerate(shown):
                _bars(axes, rows, name, (index + 0.5) / len(shown) - 0.5, 0.8 / len(shown))
            axes.set_title(title, loc="left", fontweight="bold")
            axes.set_yticks(range(len(rows)), [_label(row) for row in rows])
            axes.set_ylim(len(rows) - 0.5, -0.5)
            axes.axvline(1, color=INK, linewidth=0.8)
            axes.tick_params(left=False)
        grid.flat[-1].set_xlabel("training step, as a multiple of the plain network's")
        if len(shown) > 1:
            grid.flat[0].legend(loc="lower right")


def _bars(axes: Any, rows: Sequence[dict[str, Any]], name: str, shift: float, width: float) -> None:
    ratios = {place + shift: row["found"][name]["ratio"]
              for place, row in enumerate(rows) if name in row["found"]}  # fmt: skip
    axes.barh(list(ratios), [ratio - 1 for ratio in ratios.values()], width, left=1,
              color=COLOURS[list(BARS).index(name)], label=BARS[name])  # fmt: skip
    for place, ratio in ratios.items():
        axes.text(max(ratio, 1) + 0.01, place, f"{ratio:.2f}", va="center", size="small")


def _label(row: Mapping[str, Any]) -> str:
    return f"{row['network']}, {row['size']} x {row['size']}, batch {row['batch']}"


def growth(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """How one layer's overhead depends on each size, for both compositions."""
    varied = list(dict.fromkeys(row["varied"] for row in rows))
    with picture(path, figsize=(7, 2.6)) as figure:
        grid = figure.subplots(1, len(varied), sharey=True)
        for axes, size in zip(grid, varied, strict=True):
            chosen = [row for row in rows if row["varied"] == size]
            for name, colour in (("kernel", "tab:red"), ("feature", "tab:orange")):
                ratios = [row["found"][name]["ratio"] for row in chosen]
                axes.plot([str(row[size]) for row in chosen], ratios, ".-", color=colour,
                          label=f"{name} composition")  # fmt: skip
            axes.axhline(1, color=INK, linewidth=0.8)
            axes.set_xlabel({"d_mul": "D_mul", "size": "map's size"}.get(size, size))
        grid[0].set_ylabel("step, as a multiple\nof the plain layer's")
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=2)
