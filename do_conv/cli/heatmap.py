"""`do-conv heatmap`: where D changed each kernel of a checkpoint."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from do_conv import figures, table
from do_conv.checkpoints.heatmap import kernel_changes


def add_to(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "heatmap", help="draw |W' - W| of each layer of a checkpoint", description=__doc__
    )
    parser.add_argument("source", metavar="IN", help="the checkpoint")
    parser.add_argument(
        "target",
        metavar="OUT",
        nargs="?",
        help="the picture (.png, .svg or .pdf); without it the numbers are printed",
    )
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Draw, or print, and return 0."""
    changes = kernel_changes(given.source)
    if given.target is not None:
        figures.change_picture(Path(given.target), changes)
    if given.json:
        print(json.dumps({name: change.tolist() for name, change in changes.items()}, indent=1))
    elif given.target is not None:
        print(f"Drew {table.counted(len(changes), 'layer')}: {given.source} -> {given.target}")
    else:
        for name, change in changes.items():
            print(name or "(the one layer)")
            for row in change.reshape(-1, change.shape[-1]):
                print(table.wrapped(" ".join(f"{value:4.2f}" for value in row), "  ", "    "))
    return 0
