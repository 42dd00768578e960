"""The runs that are kept, and what they say: means, spreads, and paired differences."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from examples import doors, variants

CONFIDENCE = 0.95
_ROUNDING = 1e-9  # as a share: below it, numbers are the same
LAST = 5  # epochs whose accuracies are averaged on CIFAR, as in the paper
# Settings that a plain network has not.
OF_D = {"where", "stages", *variants.DEFAULTS, "door"}
ACCURACY = ["accuracy"]  # the measures of runs whose settings name no others
Seeds = dict[int, list[float]]  # a measure by seed, by epoch: the accuracy is in %
Arms = dict[str, Seeds]


def _no_runs() -> Arms:
    return {"plain": {}, "do-conv": {}}


@dataclass
class Experiment:
    """The whole runs of one experiment.

    Attributes:
        settings: those of its do-conv arm, or of its plain arm where there is no other.
        runs: the accuracies in % by arm, by seed, by epoch; or the first of the other measures that
            its settings name.
        more: the same of its further measures, by their names.
        references: the measures of methods that are not trained, by their names.
        places: the versions and machines it ran on, each once.
        unfinished: how many runs are not whole.
        kernel_changes: what D did to each kernel (Figure 6), by seed, by layer.
        kernel_sizes: how large D and that change are, by seed, by layer.
        door: where its do-conv arm had W and D'; None while there is no such run.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    runs: Arms = field(default_factory=_no_runs)
    more: dict[str, Arms] = field(default_factory=dict)
    references: dict[str, dict[str, float]] = field(default_factory=dict)
    places: list[dict[str, Any]] = field(default_factory=list)
    unfinished: int = 0
    kernel_changes: dict[int, dict[str, Any]] = field(default_factory=dict)
    kernel_sizes: dict[int, dict[str, dict[str, float]]] = field(default_factory=dict)
    door: str | None = None

    @property
    def kernel_change(self) -> dict[str, Any]:
        """What D did to each kernel in the run of the first seed."""
        return self.kernel_changes[min(self.kernel_changes)] if self.kernel_changes else {}

    @property
    def measures(self) -> list[str]:
        """What its runs are measured by; the first one is that of `runs`."""
        return list(self.settings.get("measures", ACCURACY))

    def by(self, measure: str) -> Experiment:
        """The same experiment with the runs of one of its measures."""
        return replace(self, runs=self.more.get(measure, self.runs))


def load(folder: Path) -> dict[str, Experiment]:
    """The experiments of a folder by name; a variant of D has the plain runs of what it varies.

    Raises:
        ValueError: if the runs of an experiment are of different settings or of both doors.
    """
    found: dict[str, Experiment] = {}
    for path in sorted(folder.glob("*.json")):
        header = json.loads(path.read_text(encoding="utf-8"))
        kept = path.with_suffix(".jsonl")  # made after the first epoch
        lines = kept.read_text(encoding="utf-8").splitlines() if kept.exists() else []
        one = found.setdefault(header["experiment"], Experiment())
        _hold_to_settings(path, header, one)
        if header["arm"] == "do-conv":
            one.door = _door(path, header, one)
        _hold_to_device(path, header, one)
        if header["arm"] == "do-conv" or not one.settings:
            one.settings = header["settings"]
        if len(lines) < header["settings"]["epochs"]:
            one.unfinished += 1
            continue
        found_at = [json.loads(line) for line in lines]
        for measure, runs in _by_measure(one, header["settings"]):
            runs[header["arm"]][header["seed"]] = [line[measure] for line in found_at]
        one.references = one.references or header.get("references", {})
        for key, by_seed in (
            ("kernel_change", one.kernel_changes), ("kernel_size", one.kernel_sizes),
        ):  # fmt: skip
            if key in header:
                by_seed[header["seed"]] = header[key]
        one.places += [place for place in header["places"] if place not in one.places]
    for name, one in found.items():
        other = None if one.runs["plain"] else _varied(name, one, found)
        if other is not None:
            one.runs["plain"] = other.runs["plain"]
            for measure, runs in one.more.items():
                runs["plain"] = other.more[measure]["plain"]
    return found


def _hold_to_settings(path: Path, header: dict[str, Any], one: Experiment) -> None:
    """Runs are compared that differ in nothing but DO-Conv and the seed."""
    if not one.settings:
        return
    known, settings = _without_d(one.settings), _without_d(header["settings"])
    if known != settings:
        name = _first_that_differs(known, settings)
        raise ValueError(
            f"{path} is of a run with {name} {settings.get(name)!r}, and others of "
            f"{header['experiment']} have {known.get(name)!r}: runs of the same settings are "
            "compared, so move it to another folder"
        )


def _hold_to_device(path: Path, header: dict[str, Any], one: Experiment) -> None:
    """Runs are compared that were made on a processor, or on one kind of accelerator."""
    known, own = (
        {place["machine"].get("device") for place in places}
        for places in (one.places, header["places"])
    )
    if known and own and known != own:
        raise ValueError(
            f"{path} is of a run on {_words(own)}, and others of {header['experiment']} ran on "
            f"{_words(known)}: runs of one kind of device are compared, so move it to another "
            "folder"
        )


def _words(devices: set[str | None]) -> str:
    return " and ".join(sorted("a processor" if one is None else one for one in devices))


def _by_measure(one: Experiment, settings: dict[str, Any]) -> Iterator[tuple[str, Arms]]:
    """The runs of an experiment for each of its measures."""
    first, *more = settings.get("measures", ACCURACY)
    yield first, one.runs
    for measure in more:
        yield measure, one.more.setdefault(measure, _no_runs())


def _door(path: Path, header: dict[str, Any], one: Experiment) -> str:
    """The door of a do-conv run, which is that of the others of its experiment."""
    door = doors.of(header["settings"])
    if one.door not in (None, door):
        raise ValueError(
            f"{path} is of a run with the door {door!r}, and others of {header['experiment']} have "
            f"{one.door!r}: runs of one door are compared, so move it to another folder"
        )
    return door


def _varied(name: str, one: Experiment, found: dict[str, Experiment]) -> Experiment | None:
    """The experiment that a variant of D varies: of its name's beginning, and its settings."""
    wanted = _without_d(one.settings)
    for other_name, other in found.items():
        begins = name.startswith(f"{other_name}-") and bool(other.runs["plain"])
        if begins and _without_d(other.settings) == wanted:
            return other
    return None


def beside(one: Experiment, baseline: Experiment) -> Experiment:
    """The runs of an experiment beside the plain runs of another one, if there are any.

    Raises:
        ValueError: if their settings differ in more than what a network was trained on before.
    """
    before = {"pretrained", "pretrained_arm"}
    known, own = (
        {k: v for k, v in _without_d(other.settings).items() if k not in before}
        for other in (baseline, one)
    )
    if baseline.runs["plain"] and known != own:
        name = _first_that_differs(known, own)
        raise ValueError(
            f"a row has runs with {name} {own.get(name)!r}, and the plain runs it is compared with "
            f"have {known.get(name)!r}: runs of the same settings are compared, so move one to "
            "another folder"
        )
    return replace(one, runs={**one.runs, "plain": baseline.runs["plain"]})


def _first_that_differs(one: dict[str, Any], other: dict[str, Any]) -> str:
    return min(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def _without_d(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in OF_D}


@dataclass(frozen=True)
class Comparison:
    """Both arms of an experiment over the seeds that both have.

    Attributes:
        seeds: how many.
        plain, ours: each seed's accuracy or other measure, the mean of its last epochs.
        gain: the mean of the seeds' differences; of accuracies in percentage points.
        interval: half the width of its confidence interval, Student's t; None for one seed, or
            equal differences.
        p: the two-sided p value of the paired t test; None for one seed, or equal differences.
        reached: the first epoch at which each arm's mean over the seeds is that of the plain arm's
            end, or None.
    """

    seeds: int
    plain: np.ndarray
    ours: np.ndarray
    gain: float
    interval: float | None
    p: float | None
    reached: tuple[int | None, int | None]

    @property
    def is_clear(self) -> bool:
        """Whether the interval excludes zero."""
        return self.interval is not None and abs(self.gain) > self.interval


def compare(one: Experiment, last: int = LAST) -> Comparison | None:
    """The comparison, or None while there is no seed that both arms have run."""
    by_seed = gains(one, last)
    if not by_seed:
        return None
    curves = {arm: np.array([runs[seed] for seed in by_seed]) for arm, runs in one.runs.items()}
    plain, ours = (curves[arm][:, -last:].mean(1) for arm in ("plain", "do-conv"))
    means = [curves[arm].mean(0) for arm in ("plain", "do-conv")]
    first, second = (_first_at_least(mean, means[0][-last:].mean()) for mean in means)
    values = np.array([*by_seed.values()])
    mean, p = float(values.mean()), p_value(values)
    return Comparison(len(values), plain, ours, mean, interval(values), p, (first, second))


def gains(one: Experiment, last: int = LAST) -> dict[int, float]:
    """What DO-Conv adds to the mean of the last epochs, by seed; those that both arms have."""
    plain, ours = one.runs["plain"], one.runs["do-conv"]
    return {
        seed: float(np.mean(ours[seed][-last:]) - np.mean(plain[seed][-last:]))
        for seed in sorted(plain.keys() & ours.keys())
    }


def apart(one: dict[int, float], other: dict[int, float]) -> np.ndarray:
    """The differences of two gains over the seeds that both have."""
    return np.array([one[seed] - other[seed] for seed in sorted(one.keys() & other.keys())])


def interval(values: np.ndarray) -> float | None:
    """Half the width of the confidence interval of the mean, Student's t; None without a spread.

    Equal values have none: of a small test set, whose accuracy has few values, they say little.
    """
    count = len(values)
    if count < 2 or not _have_spread(values):
        return None
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)
    return float(quantile * values.std(ddof=1) / np.sqrt(count))


def p_value(values: np.ndarray) -> float | None:
    """The two-sided p value of a mean of zero, Student's t; None without any spread."""
    if len(values) < 2 or not _have_spread(values):
        return None
    return float(stats.ttest_1samp(values, 0).pvalue)


def _have_spread(values: np.ndarray) -> bool:
    return bool(np.ptp(values) > _ROUNDING * max(1, np.abs(values).max()))


def _first_at_least(curve: np.ndarray, goal: float) -> int | None:
    above = np.flatnonzero(curve >= goal - _ROUNDING * max(1, abs(goal)))
    return int(above[0]) + 1 if len(above) else None
