"""Every gain on the page of results, computed once more from the files of the runs."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from examples.records import RESULTS
from examples.restoration import train as restoration
from examples.time_series import series
from examples.time_series import train as time_series
from examples.transfer import train as transfer

PAGE = Path(__file__).parents[2] / "docs" / "results.md"
ROW = re.compile(
    r"^\| (?P<label>[^|]+) \| (?P<plain>[-\d.]+ ± [\d.]+) \| (?P<ours>[-\d.]+ ± [\d.]+)"
    r" \| (?P<gain>[*+\-\d. ±]+) \| (?P<p>(?:(?:< )?[\d.e-]+)?) \| (?P<seeds>\d+) \|(?P<rest>.*)$",
    re.MULTILINE,
)
MAIN = "cifar100-resnet_v2_20"
LAST_FIVE, LAST, FIRST = slice(-5, None), slice(-1, None), slice(0, 1)
# Of each row the experiment of its do-conv arm, that of its plain arm, its epochs, and its measure.
FILES = {
    **{label: (name, name, LAST, "accuracy") for label, name in {
        "PyTorch": "mnist-torch",
        "TensorFlow (Keras here)": "mnist-keras",
        "MXNet Gluon": "mnist-gluon",
        **{f"{name}, {shown}": f"{name}-{network}"
           for name in ("Coffee", "GunPoint", "ItalyPowerDemand", "JapaneseVowels", "OSULeaf")
           for network, shown in (("fcn", "FCN"), ("resnet", "ResNet"))},
        **{f"{share} % of the images": f"transfer-resnet_v1_20-{share}" for share in (1, 10, 100)},
    }.items()},
    "PyTorch, after one epoch": ("mnist-torch", "mnist-torch", FIRST, "accuracy"),
    **{label: (MAIN + variant, MAIN, LAST_FIVE, "accuracy") for label, variant in {
        "CIFAR-100, ResNet-v2-20": "", "stages 0, 1, 2, 3": "", "D_mul = M x N": "", "identity": "",
        "stages 0": "-stages0", "stages 0, 1": "-stages01", "stages 0, 1, 2": "-stages012",
        "D_mul = (M + 2) x (N + 2)": "-dmul-wider", "D_mul = (M x 2) x (N x 2)": "-dmul-4",
        "random (He)": "-he",
    }.items()},
    **{f"{what}, {shown}": (f"photographs-{network}", f"photographs-{network}", LAST, measure)
       for what, network in (("noise", "dncnn"), ("blur", "unet"))
       for shown, measure in (("PSNR (dB)", "psnr"), ("SSIM", "ssim"))},
}  # fmt: skip
GROUPED = {"MobileNet-v2-like": "mobilenet_v2", "ResNeXt-29-like, 8 groups": "resnext_29"}
for label, network in GROUPED.items():
    FILES[label] = (f"cifar100-{network}", f"cifar100-{network}", LAST_FIVE, "accuracy")
VARIANTS = {"D of He et al.": "he", "D_mul = 25": "dmul-wider", "D_mul = 36": "dmul-4"}
for label, (ours, *others) in list(FILES.items()):
    for words, variant in VARIANTS.items():
        FILES[f"{label}, {words}"] = (f"{ours}-{variant}", *others)
ROWS = [found.groupdict() for found in ROW.finditer(PAGE.read_text("utf-8"))]


def measures(experiment, arm, epochs, measure):
    """What is measured of each seed."""
    paths = sorted(RESULTS.glob(f"{experiment}-{arm}-seed*.jsonl"))
    runs = [
        [json.loads(line)[measure] for line in path.read_text("utf-8").splitlines()]
        for path in paths
    ]
    longest = max(map(len, runs))
    seeds = [re.search(r"seed(\d+)", path.stem)[1] for path in paths]
    return {
        seed: np.mean(run[epochs])
        for seed, run in zip(seeds, runs, strict=True)
        if len(run) == longest
    }


def of_both(ours, plain, epochs, measure):
    """What is measured of the plain and the do-conv arm, over the seeds of both."""
    arms = (measures(plain, "plain", epochs, measure), measures(ours, "do-conv", epochs, measure))
    seeds = sorted(arms[0].keys() & arms[1].keys())
    return [np.array([arm[seed] for seed in seeds]) for arm in arms]


def first_epoch(arm, goal, ours, plain, measure):
    """The first epoch at which the seeds' mean reaches a goal."""
    epochs = range(1, 100)
    means = (of_both(ours, plain, slice(e - 1, e), measure)[arm].mean() for e in epochs)
    return next(epoch for epoch, mean in zip(epochs, means, strict=False) if mean >= goal)


def test_a_command_without_options_has_the_epochs_of_the_kept_runs():
    """Otherwise it is refused beside them."""
    epochs = {
        "photographs": restoration.EPOCHS,
        **{f"transfer-{transfer.NETWORK}-{share}": n for share, n in transfer.EPOCHS.items()},
        **dict.fromkeys(series.SETS, time_series.EPOCHS),
    }
    for start, number in epochs.items():
        for path in RESULTS.glob(f"{start}-*.json"):
            assert json.loads(path.read_text("utf-8"))["settings"]["epochs"] == number, path.name


def test_every_row_with_a_gain_is_read():
    lines = [line for line in PAGE.read_text("utf-8").splitlines() if line.count("±") >= 2]
    assert len(lines) == len(ROWS)
    assert {row["label"] for row in ROWS} <= set(FILES)


@pytest.mark.parametrize("row", ROWS, ids=[f"{row['label']},{row['rest']}" for row in ROWS])
def test_a_row_is_that_of_its_files(row):
    ours, plain, epochs, measure = FILES[row["label"]]
    if "| optimizer |" in f"|{row['rest']}":
        ours += "-optimizer"
    arms = of_both(ours, plain, epochs, measure)
    digits = 4 if measure == "ssim" else 2
    for values, name in zip(arms, ("plain", "ours"), strict=True):
        assert row[name] == f"{values.mean():.{digits}f} ± {values.std(ddof=1):.{digits}f}"
    if np.array_equal(*arms):  # a test divides by the spread of the differences
        assert (row["gain"], row["p"]) == (f"{0:+.{digits}f}", "")
    else:
        test = stats.ttest_rel(*reversed(arms))
        interval = test.confidence_interval(0.95)
        middle, half = (interval.high + interval.low) / 2, (interval.high - interval.low) / 2
        is_clear = interval.low > 0 or interval.high < 0
        gain = f"{middle:+.{digits}f} ± {half:.{digits}f}"
        assert row["gain"] == (f"**{gain}**" if is_clear else gain)
        assert row["p"] == ("< 0.001" if test.pvalue < 0.001 else f"{test.pvalue:.2g}")
    assert int(row["seeds"]) == len(arms[0])
    if reached := re.search(r"\| (\d+|-) / (\d+|-) \|", row["rest"]):
        goal = arms[0].mean()
        for arm, epoch in enumerate(reached.groups()):
            if epoch != "-":
                assert int(epoch) == first_epoch(arm, goal, ours, plain, measure)
