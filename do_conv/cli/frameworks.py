"""Which frameworks a command runs on: those asked for by name, or those that are installed."""

from __future__ import annotations

import argparse

from do_conv.core import rules
from do_conv.core.errors import MissingFrameworkError
from do_conv.parity import backends


def add_option(parser: argparse.ArgumentParser) -> None:
    """Add `--framework`, which may be given several times."""
    parser.add_argument(
        "--framework",
        action="append",
        default=[],
        metavar="NAME",
        help=f"one of {', '.join(backends.FRAMEWORKS)}; may be repeated (default: all installed)",
    )


def known(names: list[str]) -> None:
    """Refuse names that do not exist, before anything is imported.

    Raises:
        DOConvError: for a name there is none of.
    """
    for name in names:
        rules.known_name("framework", name, backends.FRAMEWORKS)


def chosen(names: list[str]) -> tuple[list[str], dict[str, str]]:
    """The frameworks to run, and those that cannot be, each with the sentence that says why.

    Raises:
        MissingFrameworkError: for a framework that was asked for by name and is not installed.
    """
    if names:
        for name in names:
            backends.load(name)
        return list(dict.fromkeys(names)), {}
    present: list[str] = []
    missing: dict[str, str] = {}
    for name in backends.FRAMEWORKS:
        try:
            backends.load(name)
            present.append(name)
        except MissingFrameworkError as error:
            missing[name] = str(error)
    return present, missing
