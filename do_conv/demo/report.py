"""The report of the demo: a table, and a sentence on what it shows."""

from __future__ import annotations

import statistics

from rich import box
from rich.table import Table

from do_conv.demo.experiment import ARMS, GOAL, Outcome
from do_conv.table import counted

NOT_OFFERED = "not offered"


def table(outcomes: list[Outcome], *, epochs: int) -> Table:
    """A column for each framework; a mean over the seeds, then the lowest and the highest."""
    shown = Table(box=box.SIMPLE_HEAVY)
    shown.add_column("", no_wrap=True)
    for outcome in outcomes:
        shown.add_column(outcome.versions, style="" if outcome.holds else "red")
    for arm in ARMS:
        cells = (_accuracy(outcome, arm) for outcome in outcomes)
        shown.add_row(f"accuracy, {arm}", *cells)
    for arm in ARMS:
        cells = (_epochs(outcome, arm, epochs) for outcome in outcomes)
        shown.add_row(f"to {GOAL:g} %, {arm}", *cells)
    rows = {
        "same bits at start": lambda o: "yes" if o.equal_at_start else "no",
        "changed by folding": lambda o: f"{o.fold_error:.1e}" if o.fold_error else "0",
        "parameters, layers": lambda o: f"{o.parameters[0]:,}",
        "parameters, folded": lambda o: f"{o.parameters[1]:,}",
        "time, layers / plain's": lambda o: _ratio(o, "layers"),
        "time, folded / plain's": lambda o: _ratio(o, "folded"),
    }
    for name, cell in rows.items():
        shown.add_row(name, *(cell(outcome) for outcome in outcomes))
    return shown


def _ratio(outcome: Outcome, network: str) -> str:
    return f"{outcome.seconds[network] / outcome.seconds['plain']:.2f}x"


def _accuracy(outcome: Outcome, arm: str) -> str:
    if arm not in outcome.accuracy:
        return NOT_OFFERED
    last = [curve[-1] for curve in outcome.accuracy[arm]]
    mean = f"{statistics.mean(last):.2f} %"
    return mean if len(last) == 1 else f"{mean}\n{min(last):.2f} to {max(last):.2f}"


def _epochs(outcome: Outcome, arm: str, epochs: int) -> str:
    """The mean if every seed got there; otherwise how many did, of which a mean would say less."""
    if arm not in outcome.accuracy:
        return NOT_OFFERED
    reached = outcome.epochs_to_goal(arm)
    every = [epoch for epoch in reached if epoch is not None]
    if len(every) < len(reached):
        return f"{len(every)} of {counted(len(reached), 'seed')}\nin {counted(epochs, 'epoch')}"
    if len(every) == 1:
        return counted(every[0], "epoch")
    return f"{statistics.mean(every):.1f} epochs\n{min(every)} to {max(every)}"


def learned(outcomes: list[Outcome], *, epochs: int) -> str:
    """A sentence on how many networks reached the goal; until then accuracies say little."""
    reached = [epoch for o in outcomes for arm in o.accuracy for epoch in o.epochs_to_goal(arm)]
    count = sum(epoch is not None for epoch in reached)
    if count == len(reached):
        return f"Every network reached {GOAL:g} %."
    some = f"Only {count} of {len(reached)} networks" if count else "No network"
    return (
        f"{some} reached {GOAL:g} % in {counted(epochs, 'epoch')}: "
        "train for more (--epochs) before you compare accuracies."
    )
