"""Parts of a page of results, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable

from examples.report.runs import Comparison

OURS = ("plain", "DO-Conv", "gain", "p", "seeds")


def arms(result: Comparison, digits: int = 2) -> tuple[str, str, str, str, str]:
    """Both arms, the gain and its p value, and the number of seeds."""
    plain, ours = (
        f"{one.mean():.{digits}f}"
        + (f" ± {one.std(ddof=1):.{digits}f}" if result.seeds > 1 else "")
        for one in (result.plain, result.ours)
    )
    return plain, ours, gain(result, digits), probability(result.p), str(result.seeds)


def gain(result: Comparison, digits: int = 2) -> str:
    """The gain and its interval, in bold where the interval excludes zero."""
    return difference(result.gain, result.interval, digits)


def difference(mean: float, interval: float | None, digits: int = 2) -> str:
    """A mean difference and its interval, in bold where the interval excludes zero."""
    shown = signed(mean, digits)
    if interval is None:
        return shown
    shown += f" ± {interval:.{digits}f}"
    return f"**{shown}**" if abs(mean) > interval else shown


def probability(p: float | None) -> str:
    """A p value in two figures; nothing for None."""
    if p is None:
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.2g}"


def commands(given: Iterable[str]) -> str:
    """A block of commands, each once, that begin after `python -m`."""
    lines = dict.fromkeys(f"python -m {command}" for command in given if command)
    return "\n".join(["```text", *lines, "```\n"])


def signed(value: float | None, digits: int = 2) -> str:
    """A number with its sign; nothing for None."""
    return "" if value is None else f"{value:+.{digits}f}"
