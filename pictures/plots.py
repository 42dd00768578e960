"""Plots of results for the pages: SVG, dark on a light page and light on a dark one."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from do_conv.files import replacing

# The colours of text and lines; matplotlib draws with the first, which then stands for either.
INK, INK_IN_THE_DARK = "#24292f", "#d0d7de"
STYLE = (
    f"<style>svg {{color: {INK}}} "
    f"@media (prefers-color-scheme: dark) {{svg {{color: {INK_IN_THE_DARK}}}}}</style>"
)
INKED = ("text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "xtick.color",
         "ytick.color", "legend.labelcolor")  # fmt: skip


@contextmanager
def picture(path: Path, **size: Any) -> Iterator[Any]:
    """A matplotlib figure to draw in, which is then written.

    Args:
        path: where it goes, with the ending `.svg`.
        size: the figure's arguments.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    drawn = {"svg.hashsalt": "do-conv", "axes.spines.top": False, "axes.spines.right": False,
             "axes.titlesize": "medium", "legend.frameon": False,
             **dict.fromkeys(INKED, INK)}  # fmt: skip
    with mpl.rc_context(drawn):
        figure = Figure(layout="constrained", **size)
        yield figure
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    head, svg, rest = text.getvalue().partition("<svg")
    svg += rest.replace(INK, "currentColor").replace(">", f">{STYLE}", 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as beside:
        beside.write_text("\n".join(line.rstrip() for line in (head + svg).splitlines()) + "\n")
