"""The section on the learning rate on CIFAR-100, in Markdown; it shows the rates that were run."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from examples.report.runs import LAST, Arms, Experiment, compare
from examples.report.tables import OURS, arms
from pictures import markdown

BASE, RATE = "cifar100-resnet_v2_20", 0.1
ON_RATES = """## The learning rate on CIFAR-100

ResNet-v2-20 as on the [page of results](results.md), for 12 epochs, also with other learning rates
than its own, 0.1. Accuracies are means over the last five epochs. In the last line each arm has the
rate that is best for it on the test images, over the seeds that all rates have: so both arms are
favoured alike.
"""
COMMAND = "python -m examples.cifar.train --data DIR --rate RATE --seeds 0 1 2 3 4"


def section(found: Mapping[str, Experiment]) -> str:
    """A line for each rate, and one of each arm's best; nothing while the base alone has run."""
    compared = {
        rate: (one.runs, result)
        for name, one in found.items()
        if (rate := _rate(name)) is not None and (result := compare(one)) is not None
    }
    if len(compared) < 2:
        return ""
    lines = [(f"{rate:g}", *arms(result)) for rate, (_, result) in sorted(compared.items())]
    rates, both = _best({rate: runs for rate, (runs, _) in compared.items()})
    result = compare(Experiment(runs=both))
    if result is not None:
        chosen = " and ".join(f"{rates[arm]:g}" for arm in both)
        lines.append((f"the best of each arm: {chosen}", *arms(result)))
    table = markdown.table(("learning rate", *OURS), lines)
    return f"{ON_RATES}\n{table}\n```text\n{COMMAND}\n```\n"


def _rate(name: str) -> float | None:
    """The learning rate of an experiment, if it differs from the base in nothing else."""
    if name == BASE:
        return RATE
    start, _, rate = name.partition("-rate-")
    return float(rate) if start == BASE and rate.replace(".", "", 1).isdigit() else None


def _best(by_rate: Mapping[float, Arms]) -> tuple[dict[str, float], Arms]:
    """The best rate of each arm, and its runs, over the seeds that all runs have."""
    seeds = set.intersection(*(set(one) for runs in by_rate.values() for one in runs.values()))
    rates: dict[str, float] = {}
    both: Arms = {"plain": {}, "do-conv": {}}
    for arm in both if seeds else ():
        kept = {rate: {seed: of[arm][seed] for seed in seeds} for rate, of in by_rate.items()}
        ends = {
            rate: float(np.mean([accuracies[-LAST:] for accuracies in one.values()]))
            for rate, one in kept.items()
        }
        rates[arm] = max(ends, key=ends.__getitem__)
        both[arm] = kept[rates[arm]]
    return rates, both
