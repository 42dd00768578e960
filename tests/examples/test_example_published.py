"""Every gain on the page of results, computed once more from the files of the runs."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from examples.records import RESULTS

PAGE = Path(__file__).parents[2] / "docs" / "results.md"
ROW = re.compile(
    r"^\| (?P<label>[^|]+) \| (?P<plain>[-\d.]+ ± [\d.]+) \| (?P<ours>[-\d.]+ ± [\d.]+)"
    r" \| (?P<gain>[*+\-\d. ±]+) \| (?P<p>[\d.e-]+) \| (?P<seeds>\d+) \|(?P<rest>.*)$",
    re.MULTILINE,
)
# The files of each row: the experiment, and the epochs whose accuracy counts.
MAIN = ("cifar100-resnet_v2_20", slice(-5, None))
FILES = {
    "PyTorch": ("mnist-torch", slice(-1, None)),
    "TensorFlow (Keras here)": ("mnist-keras", slice(-1, None)),
    "MXNet Gluon": ("mnist-gluon", slice(-1, None)),
    "PyTorch, after one epoch": ("mnist-torch", slice(0, 1)),
    "CIFAR-100, ResNet-v2-20": MAIN,
    "stages 0, 1, 2, 3": MAIN,
    "D_mul = M x N": MAIN,
    "ItalyPowerDemand, FCN": ("ItalyPowerDemand-fcn", slice(-1, None)),
    "JapaneseVowels, FCN": ("JapaneseVowels-fcn", slice(-1, None)),
    "1 % of the images": ("transfer-resnet_v1_20-1", slice(-1, None)),
}
ROWS = [found.groupdict() for found in ROW.finditer(PAGE.read_text("utf-8"))]


def accuracies(experiment, arm, epochs):
    """The accuracy of each seed."""
    paths = sorted(RESULTS.glob(f"{experiment}-{arm}-seed*.jsonl"))
    runs = [
        [json.loads(line)["accuracy"] for line in path.read_text("utf-8").splitlines()]
        for path in paths
    ]
    longest = max(map(len, runs))
    seeds = [re.search(r"seed(\d+)", path.stem)[1] for path in paths]
    return {
        seed: np.mean(run[epochs])
        for seed, run in zip(seeds, runs, strict=True)
        if len(run) == longest
    }


def first_epoch(experiment, arm, goal):
    """The first epoch at which the seeds' mean reaches an accuracy."""
    epochs = range(1, 100)
    means = (np.mean(list(accuracies(experiment, arm, slice(e - 1, e)).values())) for e in epochs)
    return next(epoch for epoch, mean in zip(epochs, means, strict=False) if mean >= goal)


def test_every_row_with_a_gain_is_read():
    lines = [line for line in PAGE.read_text("utf-8").splitlines() if line.count("±") >= 3]
    assert len(lines) == len(ROWS)
    assert {row["label"] for row in ROWS} == set(FILES)


@pytest.mark.parametrize("row", ROWS, ids=[row["label"] for row in ROWS])
def test_a_row_is_that_of_its_files(row):
    experiment, epochs = FILES[row["label"]]
    plain, ours = (accuracies(experiment, arm, epochs) for arm in ("plain", "do-conv"))
    assert plain.keys() == ours.keys()
    for arm, name in ((plain, "plain"), (ours, "ours")):
        values = list(arm.values())
        assert row[name] == f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}"
    test = stats.ttest_rel(list(ours.values()), [plain[seed] for seed in ours])
    interval = test.confidence_interval(0.95)
    middle, half = (interval.high + interval.low) / 2, (interval.high - interval.low) / 2
    is_clear = interval.low > 0 or interval.high < 0
    gain = f"{middle:+.2f} ± {half:.2f}"
    assert row["gain"] == (f"**{gain}**" if is_clear else gain)
    assert float(row["p"]) == float(f"{test.pvalue:.2g}")
    assert int(row["seeds"]) == len(plain)
    if reached := re.search(r"\| (\d+) / (\d+) \|", row["rest"]):
        goal = np.mean(list(plain.values()))
        for epoch, arm in zip(reached.groups(), ("plain", "do-conv"), strict=True):
            assert int(epoch) == first_epoch(experiment, arm, goal)
