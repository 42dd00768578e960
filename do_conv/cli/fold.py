"""`do-conv fold`: fold a checkpoint file without the model's code."""

from __future__ import annotations

import argparse
from typing import Any

from do_conv import checkpoints
from do_conv.cli import checkpoint_files


def add_to(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "fold", help="fold a checkpoint file without the model's code", description=__doc__
    )
    checkpoint_files.add_options(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Fold, print the report, and return 0."""
    with checkpoint_files.progress("folding") as advance:
        report = checkpoints.fold(
            given.source, given.target, check_finite=given.check_finite, advance=advance
        )
    checkpoint_files.say(report, "Folded", as_json=given.json, verbose=given.verbose)
    return 0
