"""Which frameworks a command runs on: those asked for by name, or those that are installed."""

from __future__ import annotations

import argparse

from do_conv import frameworks
from do_conv.core.errors import MissingFrameworkError


def add_option(parser: argparse.ArgumentParser) -> None:
    """Add `--framework`, which may be given several times."""
    parser.add_argument(
        "--framework",
        action="append",
        default=[],
        metavar="NAME",
        help=f"one of {', '.join(frameworks.BACKENDS)}; may be repeated (default: all installed)",
    )


def names(asked: list[str]) -> tuple[list[str], list[str]]:
    """The frameworks to run, and those that are not installed.

    Raises:
        DOConvError: for a name there is none of.
        MissingFrameworkError: for a framework that was asked for by name and is not installed.
    """
    if asked:
        for name in asked:
            frameworks.adapter(name)
        return list(dict.fromkeys(asked)), []
    present, missing = [], []
    for name in frameworks.BACKENDS:
        try:
            frameworks.adapter(name)
            present.append(name)
        except MissingFrameworkError:
            missing.append(name)
    return present, missing
