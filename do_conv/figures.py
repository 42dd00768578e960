"""Pictures after the paper's: training curves (Figure 5) and what D did to each kernel (Figure 6).

Figure 5 has the errors on training and validation images of one run; the curves here are of test
accuracies over seeds. `kernel_change` says where its numbers differ from those of Figure 6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from do_conv.core import rules
from do_conv.core.composition import kernel_change
from do_conv.core.errors import require_installed
from do_conv.files import replacing

Curves = Mapping[str, Sequence[Sequence[float]]]
PICTURES = (".png", ".svg", ".pdf")
COLUMNS = 7  # heat maps in a row
# The optimizer's line coincides with that of the layers.
_LINES: dict[str, dict[str, str]] = {
    "plain": {"color": "tab:gray"},
    "do-conv": {"color": "tab:red"},
    "layers": {"color": "tab:red"},
    "optimizer": {"color": "tab:blue", "linestyle": "--"},
}


def draw_curves(axes: Any, curves: Curves, *, goal: float | None = None) -> None:
    """Each arm's test accuracy by epoch (Figure 5): the mean over seeds, and their range."""
    for arm, runs in curves.items():
        values = np.asarray(runs)
        epochs = np.arange(1, values.shape[1] + 1)
        (line,) = axes.plot(epochs, values.mean(0), label=arm, **_LINES.get(arm, {}))
        lowest, highest = values.min(0), values.max(0)
        axes.fill_between(epochs, lowest, highest, color=line.get_color(), alpha=0.2, linewidth=0)
    if goal is not None:
        axes.axhline(goal, color="black", linewidth=0.6, linestyle=":")
    axes.set(xlabel="epoch", ylabel="test accuracy (%)")
    axes.legend(loc="lower right")


def draw_change(axes: Any, change: np.ndarray) -> None:
    """One layer's `kernel_change` as a heat map (Figure 6)."""
    axes.imshow(np.atleast_2d(change), cmap="viridis", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])


def training_picture(
    path: Path,
    curves: Mapping[str, Curves],
    kernels: Mapping[str, Sequence[tuple[np.ndarray, np.ndarray]]],
    *,
    goal: float | None = None,
) -> None:
    """A row for each network: its curves, and the change of each of its layers' kernels.

    Args:
        path: where the picture goes; its suffix says the format.
        curves: by row, by arm, `[seed][epoch]` in percent.
        kernels: by row, W and D' of each layer.
        goal: an accuracy to mark, in percent.

    Raises:
        MissingFrameworkError: if matplotlib is not installed.
        DOConvError: if the file cannot be written.
    """
    require_installed("matplotlib", extra="demo", user="a picture")
    from matplotlib.figure import Figure

    layers = max(len(pairs) for pairs in kernels.values())
    figure = Figure(figsize=(4.5 + 1.8 * layers, 2.8 * len(curves)), layout="constrained")
    grid = figure.subplots(len(curves), 1 + layers, squeeze=False, width_ratios=[3, *[1] * layers])
    for row, name in zip(grid, curves, strict=True):
        draw_curves(row[0], curves[name], goal=goal)
        row[0].set_title(name)
        for axes in row[1:]:
            axes.set_axis_off()
        for index, (axes, pair) in enumerate(zip(row[1:], kernels[name], strict=False), 1):
            axes.set_axis_on()
            draw_change(axes, kernel_change(*pair))
            axes.set_title(f"|W′ - W|, layer {index}", fontsize="small")
    with replacing(path) as beside:
        figure.savefig(beside, dpi=150)


def change_picture(path: Path, changes: Mapping[str, np.ndarray]) -> None:
    """A heat map for each layer (Figure 6).

    Args:
        path: where the picture goes; its suffix says the format.
        changes: by the layer's name, its `kernel_change`; of a 3-D kernel the mean over its depth
            is drawn.

    Raises:
        MissingFrameworkError: if matplotlib is not installed.
        DOConvError: if the file cannot be written, or is of another format.
    """
    rules.known_name("picture format", path.suffix, PICTURES)
    require_installed("matplotlib", extra="demo", user="a picture")
    from matplotlib.figure import Figure

    columns = min(len(changes), COLUMNS)
    rows = -(-len(changes) // columns)
    figure = Figure(figsize=(1.6 * columns, 1.8 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, (name, change) in zip(grid.flat, changes.items(), strict=False):
        axes.set_axis_on()
        draw_change(axes, change.mean(0) if change.ndim == 3 else change)
        axes.set_title(name, fontsize="x-small")
    with replacing(path) as beside:
        figure.savefig(beside, dpi=150)
