"""Variants of D beside the default, in Markdown: the paper's Tables 6 to 8 on one network."""

from __future__ import annotations

from collections.abc import Mapping

from examples.report.runs import Experiment, apart, compare, gains, interval
from examples.report.tables import arms, difference
from pictures import markdown

# What a variant adds to the name of its runs; kernels are 3 x 3.
STARTS = {"he": "D of He et al."}
D_MULS = {"dmul-wider": "D_mul = 25", "dmul-4": "D_mul = 36"}
HEADS = ("", "DO-Conv", "gain", "p", "to the default", "seeds")


def table(
    found: Mapping[str, Experiment], base: str, default: str, labels: Mapping[str, str], last: int
) -> str:
    """A line for the default and one for each variant; nothing while no variant has run.

    Args:
        found: the experiments by name.
        base: the name of the default's.
        default: what it is, in words.
        labels: the variants in words, by what they add to the name.
        last: how many epochs an accuracy is the mean of.
    """
    lines, usual = [], gains(found.get(base, Experiment()), last)
    for added, label in {"": default, **labels}.items():
        one = found.get(f"{base}-{added}" if added else base, Experiment())
        result = compare(one, last)
        if result is not None:
            more = apart(gains(one, last), usual)
            to_usual = difference(float(more.mean()), interval(more)) if added else ""
            _, ours, gained, p, seeds = arms(result)
            lines.append((label, ours, gained, p, to_usual, seeds))
    return markdown.table(HEADS, lines) if len(lines) > 1 else ""
