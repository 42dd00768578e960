"""The page "When does it help?", in Markdown, from the runs of `examples.sensitivity`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from do_conv.table import counted
from examples.report import of_d
from examples.report.runs import Comparison, Experiment, apart, compare, gains, interval
from examples.report.tables import OURS, arms, gain, signed
from examples.sensitivity import settings
from pictures import markdown

TITLE = "# When does it help?\n"
ON_TASK = """{first}

Most of this page is about one small task, scikit-learn's handwritten digits. Only 300 are trained
on: with more, all networks reach nearly the same accuracy. A network has 3 × 3 convolutions with
batch normalisation, and 300 steps under a half cosine to zero. Both arms start from the same
weights and see the same batches. A gain is the mean of the seeds' paired differences in percentage
points of test accuracy on 1,047 digits, with its 95 % confidence interval (Student's t); **bold**
where the interval excludes zero, and p is that of the paired t test. An accuracy has the standard
deviation over its seeds.
The [page of results](results.md) has larger tasks.
"""
ON_SETTINGS = """## By setting

The base is SGD with momentum 0.9, learning rate 0.1, weight decay 0.0001, batch 32, and 4 layers of
16 channels. Each other line changes one thing; those of Adam change the optimizer and its learning
rate. With {count} intervals of 95 %, about {chance} would exclude zero by chance if DO-Conv did
nothing. *First* is the gain after the first 50 steps.
"""
ON_RATES = """## With the learning rate tuned

Each arm takes the learning rate, of the three above, that is best on 450 other digits, by the mean
over the seeds.
"""
ON_VARIANTS = """## Which D

The base setting, with DO-Conv in the first layers alone (the paper's Table 6), with a D that starts
as He et al. draw weights (Table 7), and with a D_mul above 9, the number of positions of a 3 × 3
kernel (Table 8). *To the default* is the paired difference from the first line.
"""
ON_PAPER = """## The paper, and these runs

In the paper's Table 1 **deep networks tend to gain less** on CIFAR-100: {shallow} for 20 layers,
+0.01 to +0.63 for 56 and 110, {deep} for 164. By depth, the gains here are {depths}.
{of_depths}

The paper's Figure 5 shows **a faster start** on ImageNet. After the first 50 steps, {early} of the
{count} gains here have an interval above zero, and {early_losses} below it; at the end {late} are
above, and {late_losses} below.
"""
ON_D = """## D at the end

The table is of the base, as means over the seeds. The singular values are those of each channel's
D, which starts as the identity, where all are 1. The change is the norm of W′ − W by that of W.
*Skeleton* is the mean of |W′ − W| over the kernel's centre row and column, divided by its mean
over the corners, with a 95 % confidence interval.
"""
ON_SKELETON = """ACNet (Ding et al., 2019) adds kernels of 1 × 3 and 3 × 1 in training, which
strengthen the skeleton of a kernel, its centre row and column. In the paper's Figure 6 some layers
change most on their skeleton, others do not. {verdict}
"""
ON_FILES = """## How it was run

`python -m examples.sensitivity.train` runs all of it, and keeps the runs in
`examples/results/sensitivity`; `make results` writes this page from them. With
`--settings sgd --arms do-conv` and one of {options}
it runs a variant of D. The base learning rates were chosen by three plain runs of other seeds,
which favours the plain arm, if any. {places}
"""
BASE = "digits-sgd"
LABELS = {
    "sgd-rate-0.3": "learning rate × 0.3", "sgd": "base", "sgd-rate-3": "learning rate × 3",
    "adam-rate-0.3": "Adam, learning rate 0.003", "adam": "Adam, learning rate 0.01",
    "adam-rate-3": "Adam, learning rate 0.03",
    "batch-8": "batch 8", "batch-128": "batch 128", "no-decay": "no weight decay",
    "width-8": "8 channels", "width-32": "32 channels", "depth-2": "2 layers",
    "depth-8": "8 layers",
}  # fmt: skip
DEFAULT = "all layers, D = I, D_mul = 9"
LAYERS = {
    "first1": "the first layer", "first2": "the first 2 layers", "first3": "the first 3 layers",
}  # fmt: skip
DEPTHS = {2: "digits-depth-2", 4: BASE, 8: "digits-depth-8"}


def page(
    found: Mapping[str, Experiment],
    paper: Mapping[str, tuple[float, float]],
    of_rates: str = "",
) -> str:
    """The page.

    Args:
        found: the experiments by name.
        paper: the smallest and the largest gain of the paper's networks on CIFAR-100, "shallow" and
            "deep".
        of_rates: the section on the learning rate of a larger task.
    """
    ends = {name: result for name in LABELS if (result := _end(found, f"digits-{name}"))}
    firsts = {name: compare(_first(found[f"digits-{name}"]), last=1) for name in ends}
    tuned = dict(_tuned(found))
    parts = [TITLE, ON_TASK.format(first=_first_line(tuned)), *_settings(ends, firsts)]
    if tuned:
        heads = ("", "plain: rate", "DO-Conv: rate", *OURS)
        parts += [ON_RATES, markdown.table(heads, (cells for cells, _ in tuned.values()))]
    if of_rates:
        parts.append(of_rates)
    of_variants = {**LAYERS, **of_d.STARTS, **of_d.D_MULS}
    if variants := of_d.table(found, BASE, DEFAULT, of_variants, last=1):
        parts += [ON_VARIANTS, variants]
    parts += [_paper(found, paper, ends, firsts), *_of_d(found)]
    options = ", ".join(f"`{shlex.join(given)}`" for given in settings.VARIANTS.values())
    parts.append(ON_FILES.format(options=options, places=_places(found)))
    return "\n".join(parts)


def _places(found: Mapping[str, Experiment]) -> str:
    """The machines and versions, in a sentence."""
    shown = dict.fromkeys(
        f"{place['machine']['processor']}, {counted(place['machine']['threads'], 'thread')}, "
        + ", ".join(f"{name} {version}" for name, version in place["versions"].items())
        for one in found.values() for place in one.places
    )  # fmt: skip
    return f"They ran on {'; '.join(shown)}."


def _end(found: Mapping[str, Experiment], name: str) -> Comparison | None:
    return compare(found[name], last=1) if name in found else None


def _first(one: Experiment) -> Experiment:
    """The runs as they were after their first epoch."""
    return replace(one, runs={
        arm: {seed: line[:1] for seed, line in runs.items()} for arm, runs in one.runs.items()
    })  # fmt: skip


def _settings(
    ends: Mapping[str, Comparison], firsts: Mapping[str, Comparison | None]
) -> Iterator[str]:
    yield ON_SETTINGS.format(count=len(ends), chance=f"{0.05 * len(ends):.1f}")
    lines = []
    for name, result in ends.items():
        first = firsts[name]
        plain, ours, gained, p, seeds = arms(result)
        lines.append(
            (LABELS[name], plain, ours, gained, p, "" if first is None else gain(first), seeds)
        )
    yield markdown.table(("", "plain", "DO-Conv", "gain", "p", "first", "seeds"), lines)


def tuned(found: Mapping[str, Experiment]) -> dict[str, Comparison]:
    """Both arms, each with the learning rate that is best for it, by the optimizer."""
    return {optimizer: result for optimizer, (_, result) in _tuned(found)}


def _tuned(
    found: Mapping[str, Experiment],
) -> Iterator[tuple[str, tuple[tuple[str, ...], Comparison]]]:
    """For each optimizer: a line of the table, and the comparison of both arms at their best."""
    for optimizer, rates in settings.RATES.items():
        if not _are_whole([found.get(f"digits-{name}", Experiment()) for name in rates]):
            continue
        best = {arm: max(rates, key=lambda name, arm=arm: _validation(found, name, arm))
                for arm in ("plain", "do-conv")}  # fmt: skip
        both = {arm: found[f"digits-{name}"].runs[arm] for arm, name in best.items()}
        result = compare(Experiment(runs=both), last=1)
        if result is not None:
            chosen = (f"{rates[best[arm]].rate:g}" for arm in ("plain", "do-conv"))
            yield optimizer, ((optimizer, *chosen, *arms(result)), result)


def _validation(found: Mapping[str, Experiment], name: str, arm: str) -> float:
    runs = found[f"digits-{name}"].by("validation").runs[arm]
    return float(np.mean([line[-1] for line in runs.values()]))


def _are_whole(experiments: Sequence[Experiment]) -> bool:
    """Whether both arms of all have the same seeds: else the best of them may be one's luck."""
    seeds = {frozenset(runs) for one in experiments for runs in one.runs.values()}
    return len(seeds) == 1 and bool(seeds.pop())


def _first_line(tuned: Mapping[str, tuple[tuple[str, ...], Comparison]]) -> str:
    """The conclusion, from what is shown."""
    if not tuned:
        return "The learning rate is not tuned yet: nothing is shown."
    said = " and ".join(f"{gain(result)} with {name}" for name, (_, result) in tuned.items())
    shown = [name for name, (_, result) in tuned.items() if _sign(result) > 0]
    if not shown:
        return f"With the learning rate tuned for each arm, no gain is shown on this task: {said}."
    if len(shown) == len(tuned):
        return f"With the learning rate tuned for each arm, a gain remains on this task: {said}."
    return (
        f"With the learning rate tuned for each arm, a gain remains on this task with "
        f"{' and '.join(shown)} only: {said}."
    )


def _sign(result: Comparison | None) -> int:
    """1 for an interval above zero, -1 for one below, 0 for one that holds zero."""
    if result is None or not result.is_clear:
        return 0
    return 1 if result.gain > 0 else -1


def _paper(
    found: Mapping[str, Experiment], paper: Mapping[str, tuple[float, float]],
    ends: Mapping[str, Comparison], firsts: Mapping[str, Comparison | None],
) -> str:  # fmt: skip
    depths = {depth: result for depth, name in DEPTHS.items() if (result := _end(found, name))}
    ranges = {name: " to ".join(signed(one) for one in both) for name, both in paper.items()}
    early, late = ([_sign(one) for one in results.values()] for results in (firsts, ends))
    return ON_PAPER.format(
        **ranges,
        depths=", ".join(f"{gain(one)} ({depth} layers)" for depth, one in depths.items()),
        of_depths=_of_depths(found), count=len(ends), early=early.count(1),
        early_losses=early.count(-1), late=late.count(1), late_losses=late.count(-1),
    )  # fmt: skip


def _of_depths(found: Mapping[str, Experiment]) -> str:
    """Whether the shallowest network gains more than the deepest, by the seeds that both have."""
    shallow, deep = (
        gains(found.get(DEPTHS[depth], Experiment()), last=1)
        for depth in (min(DEPTHS), max(DEPTHS))
    )
    differences = apart(shallow, deep)
    width = interval(differences)
    if width is None:
        return "Of a difference by depth there are too few runs."
    more = float(differences.mean())
    verdict = f"the {'shallowest' if more > 0 else 'deepest'} gains more"
    if abs(more) <= width:
        verdict = "no difference by depth is shown"
    return (
        f"Over the same seeds, the gain of the shallowest less that of the deepest is "
        f"{signed(more)} ± {width:.2f}: {verdict}."
    )


def _of_d(found: Mapping[str, Experiment]) -> Iterator[str]:
    """The sizes of D by layer, and where the kernels changed."""
    one = found.get(BASE, Experiment())
    if not one.kernel_sizes:
        return
    yield ON_D
    ratios = {layer: _skeletons(one, layer) for layer in next(iter(one.kernel_sizes.values()))}
    lines = []
    for number, (layer, of_seeds) in enumerate(ratios.items(), 1):
        means = [np.mean([sizes[layer][what] for sizes in one.kernel_sizes.values()])
                 for what in ("smallest", "median", "largest", "change")]  # fmt: skip
        ratio = f"{of_seeds.mean():.2f} ± {interval(of_seeds) or 0:.2f}"
        lines.append((str(number), *(f"{mean:.3f}" for mean in means), ratio))
    heads = ("layer", "smallest", "median", "largest singular value", "change", "skeleton")
    yield markdown.table(heads, lines)
    lower = [of.mean() - (interval(of) or np.inf) for of in ratios.values()]
    upper = [of.mean() + (interval(of) or np.inf) for of in ratios.values()]
    more, less = sum(value > 1 for value in lower), sum(value < 1 for value in upper)
    yield ON_SKELETON.format(verdict=(
        f"Here the skeleton changes more than the corners in {more} of {len(ratios)} layers, "
        f"and less in {less}."
    ))  # fmt: skip


def _skeletons(one: Experiment, layer: str) -> np.ndarray:
    """Of each seed, the mean change on the skeleton by that at the corners."""
    changes = np.array([changes[layer] for changes in one.kernel_changes.values()])
    row, column = np.indices((3, 3))
    skeleton = (row == 1) | (column == 1)
    return np.asarray(changes[:, skeleton].mean(1) / changes[:, ~skeleton].mean(1))
