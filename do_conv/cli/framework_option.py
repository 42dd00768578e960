"""The frameworks that a command runs on: those given by name, or those that are installed."""

from __future__ import annotations

import argparse

from do_conv import frameworks
from do_conv.core import rules
from do_conv.core.errors import MissingFrameworkError


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add `--framework`, which may be given several times."""
    parser.add_argument(
        "--framework",
        action="append",
        default=[],
        metavar="NAME",
        help=f"one of {', '.join(frameworks.BACKENDS)}; may be repeated (default: all installed)",
    )


def check(asked: list[str]) -> None:
    """Refuse names that do not exist, before anything is imported.

    Raises:
        DOConvError: for a name that is not in the registry.
    """
    for name in asked:
        rules.known_name("framework", name, frameworks.BACKENDS)


def names(asked: list[str]) -> tuple[list[str], dict[str, str]]:
    """The frameworks to run, and those that cannot be, each with the sentence that says why.

    Raises:
        MissingFrameworkError: for a framework that was asked for by name and is not installed.
    """
    if asked:
        for name in asked:
            frameworks.adapter(name)
        return list(dict.fromkeys(asked)), {}
    present: list[str] = []
    missing: dict[str, str] = {}
    for name in frameworks.BACKENDS:
        try:
            frameworks.adapter(name)
            present.append(name)
        except MissingFrameworkError as error:
            missing[name] = str(error)
    return present, missing
