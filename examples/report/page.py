"""The page of results, in Markdown."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from examples import doors
from examples.report import paper
from examples.report.runs import Comparison, Experiment, compare

HEAD = """# Results

The paper's experiments, run again with this library. `make results` writes this page from the files
in `examples/results`, which have a line for each epoch of each run, and its settings, versions
and machine. Both arms start from the same weights and see the same batches in the same order.
Spreads are standard deviations over the seeds; a gain is the mean of the seeds' paired differences,
with its 95 % confidence interval (Student's t). A gain whose interval holds zero, or of one
seed, shows nothing.
"""
ON_MNIST = """## MNIST

The three demonstrations of the authors' readme, with the networks, optimizers, batch sizes, epochs
and splits that it names: the accuracy is that after the last epoch, in PyTorch on the last 10,000
training images, elsewhere on the test images. `examples/mnist` says what had to be assumed.
"""
ON_PAPER = """## The paper's tables

The columns before `ours: plain` hold every figure of the paper's Tables 1 to 8: its baseline, what
DO-Conv adds to it, and what else a table has, in % and percentage points. The paper gives no
spreads. A row that was not run says so, with the command that runs it.

The paper's accuracies on CIFAR are the mean over the last five epochs and over five runs. Ours are
the mean over the last five epochs, too, and over as many runs as the column `seeds` says: the
default is three, and `--seeds 0 1 2 3 4` makes five. All others are those after the last epoch.

The schedule `full` has 64,000 iterations, as He et al. have; `short` and `medium` have 12 and 40
epochs, with lower accuracies and gains of an earlier stage of training. They show which way DO-Conv
goes, not the paper's figure. Runs with W and D' in the optimizer (`--door optimizer`) have rows of
their own, which say so after the schedule.
"""
NOT_RUN = "not run"


def page(found: Mapping[str, Experiment], pictures: Mapping[str, Sequence[str]]) -> str:
    """The page.

    Args:
        found: the experiments by name.
        pictures: the paths of an experiment's pictures, from the page, by the experiment's name:
            its curves, and perhaps its heat map.
    """
    parts = [HEAD, ON_MNIST, _mnist(found), *_figures(found, pictures, "mnist"), ON_PAPER]
    for table in paper.TABLES:
        parts += [f"### {table.name}: {table.caption}\n"]
        parts += [f"{table.note}\n"] if table.note else []
        parts += [_table(table, found)]
    parts += [*_figures(found, pictures, "cifar"), *_places(found)]
    return "\n".join(parts)


def _mnist(found: Mapping[str, Experiment]) -> str:
    head = ("framework", "plain", "DO-Conv", "gain", "seeds", "paper: plain", "gain", "command")
    lines = []
    for row in paper.MNIST.rows:
        result = compare(found[row.experiment], last=1) if row.experiment in found else None
        lines.append((row.label, *_ours(result), str(row.plain), _signed(row.gain), _code(row)))
    return _markdown(head, lines) + _one_epoch(found)


def _one_epoch(found: Mapping[str, Experiment]) -> str:
    """One version of the authors' PyTorch demonstration trains for a single epoch."""
    torch = found.get("mnist-torch")
    if torch is None or compare(torch) is None:
        return ""
    first = Experiment(
        runs={arm: {seed: line[:1] for seed, line in runs.items()}
              for arm, runs in torch.runs.items()}
    )  # fmt: skip
    result = compare(first, last=1)
    plain, ours, gain, _ = _ours(result)
    return (
        "\nOne version of the authors' PyTorch demonstration trains for a single epoch. After it\n"
        f"the plain network has {plain}, with DO-Conv {ours}: {gain}.\n"
    )


def _table(table: paper.Table, found: Mapping[str, Experiment]) -> str:
    head = (
        "", "paper: plain", "gain", *table.more, "ours: plain", "DO-Conv", "gain", "seeds",
        "schedule", "epochs to the plain end", "command",
    )  # fmt: skip
    lines = []
    for row in table.rows:
        plain, gain = f"{row.plain:.{table.digits}f}", _signed(row.gain, table.digits)
        theirs = (row.label, plain, gain, *row.more)
        ran = [(one, compare(one, table.last)) for one in _runs_of(row, found)]
        for one, result in ((one, result) for one, result in ran if result is not None):
            schedule = _schedule(one)
            reached = " / ".join("-" if epoch is None else str(epoch) for epoch in result.reached)
            ours = (*_ours(result), schedule, reached)
            if row.gain is None:  # of the plain network alone
                ours = (ours[0], "", "", ours[3], schedule, "")
            lines.append((*theirs, *ours, _code(row, one.door)))
        if not any(result for _, result in ran):
            lines.append((*theirs, NOT_RUN, *[""] * 5, _code(row)))
    return _markdown(head, lines)


def _runs_of(row: paper.Row, found: Mapping[str, Experiment]) -> Iterable[Experiment]:
    """The runs of a row, beside the plain runs they are compared with."""
    for one in _variants(row.experiment, found):
        if row.baseline:
            plain = found.get(row.baseline, Experiment()).runs["plain"]
            yield replace(one, runs={**one.runs, "plain": plain})
        else:
            yield one


def _variants(name: str, found: Mapping[str, Experiment]) -> Iterable[Experiment]:
    """The runs of an experiment by schedules and doors; the name has neither short nor layers."""
    data, network, *variant = name.split("-")
    for schedule, door in itertools.product(("short", "medium", "full"), doors.DOORS):
        between = [] if schedule == "short" else [schedule]
        parts = [data, network, *between, *variant, *doors.in_name("do-conv", door)]
        one = found.get("-".join(parts))
        if one is not None:
            yield one


def _schedule(one: Experiment) -> str:
    """The schedule of an experiment, and its door if that is not the usual one."""
    schedule = str(one.settings.get("schedule", "as published"))
    return f"{schedule}, optimizer" if one.door == doors.OPTIMIZER else schedule


def _ours(result: Comparison | None) -> tuple[str, str, str, str]:
    """Both arms, the gain, and the number of seeds."""
    if result is None:
        return NOT_RUN, "", "", ""
    plain, ours = (
        f"{one.mean():.2f}" + (f" ± {one.std(ddof=1):.2f}" if result.seeds > 1 else "")
        for one in (result.plain, result.ours)
    )
    interval = "" if result.interval is None else f" ± {result.interval:.2f}"
    return plain, ours, f"{result.gain:+.2f}{interval}", str(result.seeds)


def _figures(
    found: Mapping[str, Experiment], pictures: Mapping[str, Sequence[str]], start: str
) -> Iterable[str]:
    for name, paths in pictures.items():
        if name.startswith(start) and name in found:
            shown = (f"Test accuracy by epoch of {name}, plain and with DO-Conv: the mean over the "
                     "seeds, and their range (Figure 5)",
                     f"|W' - W| of each layer of {name}, seed {min(found[name].runs['do-conv'])}, "
                     "as a share of the layer's largest (Figure 6)")  # fmt: skip
            for path, what in zip(paths, shown, strict=False):
                yield f"![{what}]({path})\n\n*{what}.*\n"


def _places(found: Mapping[str, Experiment]) -> Iterable[str]:
    """Where and with what the runs were made."""
    yield "## Versions and machines\n"
    lines = []
    for name, one in sorted(found.items()):
        for place in one.places:
            versions = ", ".join(f"{k} {v}" for k, v in place["versions"].items())
            machine = place["machine"]
            on = f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads"
            lines.append((name, versions, on, _settings(one.settings)))
    yield _markdown(("experiment", "versions", "machine", "settings"), lines)


def _settings(settings: Mapping[str, Any]) -> str:
    return "; ".join(f"{name} {value}" for name, value in settings.items())


def _code(row: paper.Row, door: str | None = None) -> str:
    more = " --door optimizer" if door == doors.OPTIMIZER else ""
    return f"`python -m {row.command}{more}`" if row.command else ""


def _signed(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:+.{digits}f}"


def _markdown(head: tuple[str, ...], lines: Iterable[tuple[str, ...]]) -> str:
    rows = [head, ("---",) * len(head), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"
