"""`do-conv parity`: compare every framework with the core, case by case."""

from __future__ import annotations

import argparse
import json
from typing import Any

from do_conv import frameworks
from do_conv.cli import framework_option
from do_conv.core import rules
from do_conv.core.errors import require_installed
from do_conv.parity import cases, comparison


def add_to(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "parity", help="compare the frameworks with the core", description=__doc__
    )
    framework_option.add_to(parser)
    parser.add_argument(
        "--dtype",
        action="append",
        default=[],
        metavar="NAME",
        help=f"one of {', '.join(comparison.TOLERANCES)} (default: both)",
    )
    parser.add_argument(
        "--case",
        action="append",
        default=[],
        metavar="NAME",
        help="a case of the table; may be repeated (default: all, and the training runs)",
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Compare, print the table or the JSON, and return 0 if everything agrees."""
    selected = cases.named(given.case)
    dtypes = [rules.known_name("dtype", d, comparison.TOLERANCES) for d in given.dtype]
    dtypes = dtypes or list(comparison.TOLERANCES)
    framework_option.check(given.framework)
    require_installed("rich", extra="cli", user="do-conv parity")
    from rich.console import Console
    from rich.progress import Progress

    from do_conv.parity import report

    names, missing = framework_option.names(given.framework)
    results: list[comparison.Result] = []
    versions: dict[str, str] = {}
    console = Console(stderr=True)
    with Progress(console=console, transient=True) as progress:
        for name in names:
            adapter = frameworks.adapter(name)
            versions[name] = adapter.versions()
            task = progress.add_task(versions[name], total=len(selected) * len(dtypes))
            for dtype in dtypes:
                for case in selected:
                    results += comparison.compare_layer(name, adapter, case, dtype)
                    progress.advance(task)
                if not given.case:
                    results += comparison.compare_training(name, adapter, dtype)
                    results += comparison.compare_doors(name, adapter, dtype)
    agrees = comparison.agrees(results)
    if given.json:
        print(json.dumps(report.as_json(results, versions, missing, agrees=agrees), indent=1))
    else:
        Console().print(report.table(results, versions, missing))
    return 0 if agrees else 1
