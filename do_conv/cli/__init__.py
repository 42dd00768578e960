"""The command line, `do-conv` or `python -m do_conv`: one module for each command.

The exit code is 0 if the result holds, 1 if it does not, and 2 for an error in the arguments.
Help, the version and errors need NumPy alone: a command imports other packages when it runs.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from typing import Any

import do_conv
from do_conv.core import rules
from do_conv.core.errors import DOConvError, MissingFrameworkError


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code."""
    try:
        # Two frameworks in one process have two thread pools, which spin against each other.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        given = _parsed(sys.argv[1:] if arguments is None else arguments)
        with warnings.catch_warnings():
            # Frameworks warn of small sizes, which are intended here.
            warnings.simplefilter("ignore")
            return int(given.run(given))
    except (DOConvError, MissingFrameworkError) as error:
        print(f"do-conv: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # A reader such as `head` has closed the pipe; buffered output goes to the null device.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("do-conv: interrupted", file=sys.stderr)
        return 130


class _Version(argparse.Action):
    """Look at what is installed when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """Print it and leave."""
        from do_conv.cli import version

        print(version.text())
        parser.exit()


def _parsed(arguments: list[str]) -> argparse.Namespace:
    """The command and its options.

    Raises:
        DOConvError: for a command that does not exist.
    """
    from do_conv.cli import cost, demo, fold, heatmap, import_, parity

    parser = argparse.ArgumentParser("do-conv", description=do_conv.__doc__.splitlines()[0])
    parser.add_argument(
        "--version", action=_Version, nargs=0, help="show what is installed, for a report, and exit"
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in (parity, demo, fold, import_, cost, heatmap):
        command.add_to(commands)
    # No option before the command takes a value.
    for word in [word for word in arguments if not word.startswith("-")][:1]:
        rules.known_name("command", word, commands.choices)
    return parser.parse_args(arguments)
