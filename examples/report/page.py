"""The page of results, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

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

A row that was not run says so, with the command that runs it. On CIFAR an accuracy is the mean of
a run's last five epochs, as in the paper. The schedule `full` has 64,000 iterations, as He et al.
have; `short` and `medium` have 12 and 40 epochs, with lower accuracies and gains of an earlier
stage of training. They show which way DO-Conv goes, not the paper's figure. Where the paper's own
figure was not at hand there is a dash.
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
        parts += [f"### {table.name}: {table.caption}\n", _table(table, found)]
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
        "", "paper: plain", "gain", "ours: plain", "DO-Conv", "gain", "seeds", "schedule",
        "epochs to the plain end", "command",
    )  # fmt: skip
    lines = []
    for row in table.rows:
        theirs = (_number(row.plain), _signed(row.gain))
        ran = {name: one for name, one in _schedules(row.experiment, found) if compare(one)}
        for schedule, one in ran.items():
            result = compare(one)
            assert result is not None
            reached = " / ".join("-" if epoch is None else str(epoch) for epoch in result.reached)
            lines.append((row.label, *theirs, *_ours(result), schedule, reached, _code(row)))
        if not ran:
            lines.append((row.label, *theirs, NOT_RUN, *[""] * 5, _code(row)))
    return _markdown(head, lines)


def _schedules(name: str, found: Mapping[str, Experiment]) -> Iterable[tuple[str, Experiment]]:
    """The runs of an experiment by their schedules; the short one is not in the name."""
    data, network, *variant = name.split("-")
    for schedule in ("short", "medium", "full"):
        between = [] if schedule == "short" else [schedule]
        one = found.get("-".join([data, network, *between, *variant]))
        if one is not None:
            yield str(one.settings.get("schedule", "as published")), one


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
                     "as a share of its largest (Figure 6)")  # fmt: skip
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


def _code(row: paper.Row) -> str:
    return f"`python -m {row.command}`" if row.command else ""


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2f}"


def _markdown(head: tuple[str, ...], lines: Iterable[tuple[str, ...]]) -> str:
    rows = [head, ("---",) * len(head), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"
