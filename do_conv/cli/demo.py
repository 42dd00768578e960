"""`do-conv demo`: DO-Conv from plain layers to plain layers, on real handwritten digits."""

from __future__ import annotations

import argparse
import functools
import json
from typing import Any

from do_conv import figures, files, frameworks
from do_conv.cli import framework_option
from do_conv.core import rules
from do_conv.core.errors import require_installed
from do_conv.demo import digits, experiment
from do_conv.table import counted


def add_to(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "demo", help="train, fold and compare on handwritten digits", description=__doc__
    )
    framework_option.add_to(parser)
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="runs (default: 3)")
    parser.add_argument(
        "--epochs", type=int, default=12, metavar="N", help="of each run (default: 12)"
    )
    parser.add_argument(
        "--out", default="do-conv-demo", metavar="DIR", help="where the picture and figures go"
    )
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Train all arms, print the table, write the picture; 0 if folding changed nothing."""
    seeds, epochs = rules.integer("--seeds", given.seeds), rules.integer("--epochs", given.epochs)
    framework_option.check(given.framework)
    for package in ("rich", "sklearn", "matplotlib"):
        require_installed(package, extra="demo", user="do-conv demo")
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

    from do_conv.demo import report

    names, missing = framework_option.names(given.framework)
    out = files.output_directory(given.out)
    console = Console()
    console.print(
        "1,797 handwritten digits. In each framework a small network, trained plain and with "
        "DO-Conv from the same start: in layers of the network, and in the optimizer. "
        f"{counted(seeds, 'seed')}, {counted(epochs, 'epoch')}."
    )
    data = digits.load()
    outcomes = []
    columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        for name in names:
            versions = frameworks.adapter(name).versions()
            task = progress.add_task(versions, total=seeds * epochs * len(experiment.arms(name)))
            advance = functools.partial(progress.advance, task)
            outcome = experiment.run(name, data, seeds=seeds, epochs=epochs, advance=advance)
            outcomes.append(outcome)
    console.print(report.table(outcomes, epochs=epochs))
    for name, reason in missing.items():
        console.print(f"{name} is left out: {reason}", markup=False, highlight=False)
    if not outcomes:
        return 1
    _write(out, outcomes)
    console.print(f"Training curves and |W' - W| of each layer: {out / 'demo.png'}")
    holds = all(outcome.holds for outcome in outcomes)
    console.print(
        "Folded networks give the outputs of the trained ones."
        if holds
        else "[bold red]A network did not start or fold as it should: see the table.[/]"
    )
    console.print(report.learned(outcomes, epochs=epochs))
    return 0 if holds else 1


def _write(out: Any, outcomes: list[experiment.Outcome]) -> None:
    """The picture, and the accuracies behind it."""
    figures.training_picture(
        out / "demo.png",
        {outcome.versions: outcome.accuracy for outcome in outcomes},
        {outcome.versions: outcome.kernels for outcome in outcomes},
        goal=experiment.GOAL,
    )
    accuracies = {outcome.versions: outcome.accuracy for outcome in outcomes}
    with files.replacing(out / "demo.json") as beside:
        beside.write_text(json.dumps(accuracies, indent=1))
