"""The page of results, in Markdown."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from do_conv.table import counted
from examples import doors
from examples.report import paper, tasks
from examples.report.runs import LAST, Comparison, Experiment, beside, compare, gains
from examples.report.tables import OURS, arms, commands, signed
from pictures import markdown

HEAD = """# Results

This page has the paper's experiments that were repeated with this library, and
[other tasks](#other-tasks). [The first page](index.md#what-you-gain) has a summary. Both arms start
from the same weights and see the same batches in the same order. Spreads are standard deviations
over the seeds. A gain is the mean of the seeds' paired differences in percentage points, with its
95 % confidence interval (Student's t), and `p` the p value of the paired t test. **Bold** marks a
gain or a loss whose interval excludes zero. All other differences may be chance.
"""
ON_MNIST = """## MNIST

The three demonstrations of the authors' readme: the accuracy after the last epoch in %, in PyTorch
on the last 10,000 training images, elsewhere on the test images. One version of the PyTorch
demonstration trains for a single epoch: the last row.
"""
ON_PAPER = """## The paper's tables

Rows of Tables 1 to 8 that were run. The schedule `full` has 64,000 iterations, as in He et al.;
`short` and `medium` have 12 and 40 epochs, so they show an early stage of training, not the paper's
figure. An accuracy on CIFAR is the mean over the last five epochs, as in the paper; others are
those after the last epoch. The column `epochs` has the first epoch at which each arm
(plain / DO-Conv) reaches the plain network's final accuracy. Ten seeds were planned for
ResNet-v2-20 on CIFAR-100, five for its variants: with fewer, a row is an interim result.
Runs with W and D' in the optimizer (`--door optimizer`) have rows of their own, which say so after
the schedule.
"""
ON_FILES = """## How it was run

`make results` writes this page from the files in `examples/results`, which have a line for each
epoch of each run, and its settings, versions and machine. The default is three seeds on CIFAR, ten
on digits, and five elsewhere; `--seeds 0 1 2 3 4` makes five, as in the paper. `examples/mnist`
lists what had to be assumed.
"""
PAPERS = ("paper: plain", "paper: gain")
_GROUPED = tuple(f"cifar100-{network}" for network in tasks.GROUPED)


def page(found: Mapping[str, Experiment], pictures: Mapping[str, Sequence[str]]) -> str:
    """The page.

    Args:
        found: the experiments by name.
        pictures: the paths of an experiment's pictures, from the page, by the experiment's name:
            its curves, and perhaps its heat map.
    """
    parts = [HEAD, ON_MNIST, _mnist(found), *_figures(found, pictures, "mnist"), ON_PAPER]
    for table in paper.TABLES:
        if lines := list(_lines(table, found)):
            parts += [*_title(table), markdown.table(_heads(table), lines)]
            parts += [commands(_ran_commands(table, found))]
    parts += _figures(found, pictures, "cifar", but=_GROUPED)
    parts += [*_not_run(found), *tasks.section(found), *_figures_of_tasks(found, pictures)]
    parts += [ON_FILES, *_places(found)]
    return "\n".join(parts)


def _figures_of_tasks(
    found: Mapping[str, Experiment], pictures: Mapping[str, Sequence[str]]
) -> Iterable[str]:
    names = (name for name, *_ in tasks.RESTORED.values())
    starts = (*_GROUPED, *names, tasks.FINE_TUNED.format(""))
    if figures := list(_figures(found, pictures, *starts)):
        yield "### Curves and heat maps of these tasks\n"
        yield from figures
    if series := list(_figures(found, pictures, *tasks.PUBLISHED)):
        summary = "Curves and heat maps of the time series"
        yield f"<details markdown>\n<summary>{summary}</summary>\n"
        yield from series
        yield "</details>\n"


def _mnist(found: Mapping[str, Experiment]) -> str:
    lines = []
    for row in paper.MNIST.rows:
        if (result := _compared(found.get(row.experiment), last=1)) is not None:
            lines.append((row.label, *arms(result), str(row.plain), signed(row.gain)))
    table = markdown.table(("framework", *OURS, *PAPERS), [*lines, *_one_epoch(found)])
    return f"{table}\n{commands(row.command for row in paper.MNIST.rows)}"


def _one_epoch(found: Mapping[str, Experiment]) -> Iterable[tuple[str, ...]]:
    """One version of the authors' PyTorch demonstration trains for a single epoch."""
    torch = found.get("mnist-torch")
    if _compared(torch) is not None:
        first = Experiment(
            runs={arm: {seed: line[:1] for seed, line in runs.items()}
                  for arm, runs in torch.runs.items()}
        )  # fmt: skip
        yield ("PyTorch, after one epoch", *arms(compare(first, last=1)), "", "")


def _compared(one: Experiment | None, last: int = LAST) -> Comparison | None:
    return None if one is None else compare(one, last)


def _title(table: paper.Table) -> Iterable[str]:
    yield f"### {table.name}: {table.caption}\n"
    if table.note:
        yield f"{table.note}\n"


def _heads(table: paper.Table) -> tuple[str, ...]:
    return ("", *OURS, "schedule", "epochs", *PAPERS, *table.more)


def _lines(table: paper.Table, found: Mapping[str, Experiment]) -> Iterable[tuple[str, ...]]:
    """A line for each schedule of each row that was run."""
    for row in table.rows:
        for one, result in _ran(row, table, found):
            ours = arms(result)
            epochs = " / ".join("-" if epoch is None else str(epoch) for epoch in result.reached)
            if row.is_plain:
                ours, epochs = (ours[0], "", "", "", ours[-1]), ""
            yield (row.label, *ours, _schedule(one), epochs, *_theirs(table, row))


def _theirs(table: paper.Table, row: paper.Row) -> tuple[str, ...]:
    plain = "" if row.plain is None else f"{row.plain:.{table.digits}f}"
    return (plain, signed(row.gain, table.digits), *row.more)


def _ran(
    row: paper.Row, table: paper.Table, found: Mapping[str, Experiment]
) -> list[tuple[Experiment, Comparison]]:
    compared = ((one, compare(one, table.last)) for one in _runs_of(row, found))
    return [(one, result) for one, result in compared if result is not None]


def _not_run(found: Mapping[str, Experiment]) -> Iterable[str]:
    """The other rows, and what runs them: one list that is folded."""
    absent = {table: [row for row in table.rows if not _ran(row, table, found)]
              for table in paper.TABLES}  # fmt: skip
    count = sum(map(len, absent.values()))
    summary = f"{count} rows of these tables that were not run"
    yield f"<details markdown>\n<summary>{summary}</summary>\n"
    for table, rows in absent.items():
        if rows:
            yield f"**{table.name}: {table.caption}.** {table.note}\n"
            lines = [(row.label, *_theirs(table, row)) for row in rows]
            yield markdown.table(("", *PAPERS, *table.more), lines)
            yield commands(row.command for row in rows)
    yield "</details>\n"


def _runs_of(row: paper.Row, found: Mapping[str, Experiment]) -> Iterable[Experiment]:
    """The runs of a row, beside the plain runs they are compared with."""
    for one in _variants(row.experiment, found):
        if row.baseline:
            yield beside(one, found.get(row.baseline, Experiment()))
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


def _figures(
    found: Mapping[str, Experiment],
    pictures: Mapping[str, Sequence[str]],
    *starts: str,
    but: tuple[str, ...] = (),
) -> Iterable[str]:
    """Those of the experiments whose names have one of these starts, but none of the others."""
    rows = (row for table in (paper.MNIST, *paper.TABLES) for row in table.rows)
    for name in dict.fromkeys([*(row.experiment for row in rows), *pictures]):
        paths = pictures.get(name, ())
        if name.startswith(starts) and not name.startswith(but) and name in found:
            seed = min(found[name].runs["do-conv"], default=0)
            measure = tasks.shown(found[name]).removesuffix(" (%)")
            measure = measure[0].upper() + measure[1:]
            shown = (f"{measure} by epoch of {name}, plain and with DO-Conv: the mean over the "
                     "seeds, and their range (Figure 5)",
                     f"|W' - W| of each layer of {name}, seed {seed}, "
                     "as a share of the layer's largest (Figure 6)")  # fmt: skip
            for path, what in zip(paths, shown, strict=False):
                yield f"![{what}]({path})\n\n*{what}.*\n"


def _places(found: Mapping[str, Experiment]) -> Iterable[str]:
    """Where and with what the runs were made."""
    yield "<details markdown>\n<summary>Versions, machines and settings</summary>\n"
    lines = []
    for name, one in sorted(found.items()):
        for place in one.places:
            versions = ", ".join(f"{k} {v}" for k, v in place["versions"].items())
            machine = place["machine"]
            has = [counted(machine["cores"], "core"), counted(machine["threads"], "thread")]
            on = ", ".join([machine["processor"], *has])
            on += f", {machine['device']}" if "device" in machine else ""
            lines.append((name, versions, on, _settings(one.settings)))
    yield markdown.table(("experiment", "versions", "machine", "settings"), lines)
    yield "</details>\n"


def _settings(settings: Mapping[str, Any]) -> str:
    return "; ".join(f"{name} {value}" for name, value in settings.items())


def _ran_commands(table: paper.Table, found: Mapping[str, Experiment]) -> Iterable[str]:
    for row in table.rows:
        for one, _ in _ran(row, table, found):
            yield _command(row, one)


def _command(row: paper.Row, one: Experiment) -> str:
    """What made the runs of a row."""
    settings, parts = one.settings, [row.command]
    if "precision" in settings:  # many seeds as one network
        parts = [row.command.replace("cifar.train", "cifar.stacked")]
        parts.append(f"--precision {settings['precision']}")
    elif settings.get("schedule", "short") != "short":
        parts.append(f"--schedule {settings['schedule']}")
    if one.door == doors.OPTIMIZER:
        parts.append("--door optimizer")
    if row.command.startswith("examples.cifar"):
        parts += ["--seeds", *map(str, gains(one))]
    return " ".join(parts)
