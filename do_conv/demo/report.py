"""What the demo says: one table."""

from __future__ import annotations

import statistics

from rich import box
from rich.table import Table

from do_conv.demo.experiment import ARMS, GOAL, Outcome


def table(outcomes: list[Outcome], *, epochs: int) -> Table:
    """A row for each framework; a mean, then the lowest and the highest of the seeds."""
    shown = Table(box=box.SIMPLE_HEAVY, title_justify="left")
    shown.title = f"test accuracy after {epochs} epochs, and epochs to {GOAL:g} %"
    shown.add_column("framework")
    for arm in ARMS:
        shown.add_column(f"accuracy\n{arm}")
    for arm in ARMS:
        shown.add_column(f"to {GOAL:g} %\n{arm}")
    shown.add_column("same bits\nat the start")
    shown.add_column("changed\nby folding")
    shown.add_column("parameters\ntraining, folded")
    shown.add_column("evaluation against plain\nDO-Conv, folded")
    for outcome in outcomes:
        seconds = outcome.seconds
        ratios = (seconds[name] / seconds["plain"] for name in ("do-conv", "folded"))
        shown.add_row(
            outcome.framework,
            *(_accuracy(outcome, arm) for arm in ARMS),
            *(_epochs(outcome, arm, epochs) for arm in ARMS),
            "yes" if outcome.equal_at_start else "[bold red]no[/]",
            f"{outcome.fold_error:.1e}",
            ", ".join(f"{count:,}" for count in outcome.parameters),
            ", ".join(f"{ratio:.2f}x" for ratio in ratios),
            style="" if outcome.holds else "red",
        )
    return shown


def _accuracy(outcome: Outcome, arm: str) -> str:
    last = [curve[-1] for curve in outcome.accuracy[arm]]
    return f"{statistics.mean(last):.2f} %\n{min(last):.2f} to {max(last):.2f}"


def _epochs(outcome: Outcome, arm: str, epochs: int) -> str:
    """A seed that did not get there counts as more than all the epochs, and is shown as such."""
    reached = outcome.epochs_to_goal(arm)
    every = [epoch for epoch in reached if epoch is not None]
    if len(every) < len(reached):
        return f"{len(reached) - len(every)} of {len(reached)} seeds\nnot in {epochs}"
    return f"{statistics.mean(every):.1f}\n{min(every)} to {max(every)}"
