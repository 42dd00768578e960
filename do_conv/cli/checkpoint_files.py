"""Options, progress and report of the commands for checkpoint files."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Iterator

from do_conv import table
from do_conv.checkpoints import Layer, Report
from do_conv.core.errors import is_installed

# The number of layers that a summary lists.
FEW = 5


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the two files and the shared options."""
    parser.add_argument("source", metavar="IN", help="the file to read")
    parser.add_argument("target", metavar="OUT", help="the file to write, with the same suffix")
    parser.add_argument(
        "--no-check-finite",
        dest="check_finite",
        action="store_false",
        help="accept kernels with NaN or infinity",
    )
    parser.add_argument("--verbose", action="store_true", help="list every layer")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


@contextlib.contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A function to call after each layer, which shows progress on the standard error."""
    # Errors go to standard error, one line each; a file or a pipe gets nothing else.
    if not (sys.stderr.isatty() and is_installed("rich")):
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress

    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(what, total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)


def say(report: Report, done: str, *, as_json: bool, verbose: bool) -> None:
    """Print a report: for a program, or for a person, who may want every layer named."""
    if as_json:
        print(json.dumps(report.as_json(), indent=1))
        return
    print(
        f"{done} {table.counted(len(report.layers), 'layer')}: {report.source} -> {report.target}"
    )
    print(
        f"{report.numbers_before:,} numbers before, {report.numbers_after:,} after; "
        f"{table.counted(report.passed, 'other tensor')} untouched."
    )
    if verbose:
        for layer in report.layers:
            print(table.wrapped(f"{_named(layer.name)}  {_described(layer)}", "  ", "    "))
    for note, names in report.notes.items():
        print(table.wrapped(f"{note[0].upper()}{note[1:]} ({table.counted(len(names), 'layer')}):"))
        shown = names if verbose else names[:FEW]
        more = f" and {len(names) - len(shown)} more" if len(shown) < len(names) else ""
        print(table.wrapped(", ".join(map(_named, shown)) + more, "  ", "  "))
    if not verbose and any(len(names) > FEW for names in report.notes.values()):
        print("All of them with --verbose.")


def _named(layer: str) -> str:
    return layer or "(the one layer)"


def _described(layer: Layer) -> str:
    """A layer's kind, with the sizes that are known."""
    kind = f"{layer.kind} {' x '.join(map(str, layer.kernel_size))}".rstrip()
    sizes = {"groups": layer.groups, "D_mul": layer.d_mul}
    return ", ".join([kind, *(f"{name} {size}" for name, size in sizes.items() if size)])
