"""The study of settings on digits, and its page."""

import json
import statistics
from pathlib import Path

import numpy as np
import pytest
import torch
from task_runs import found, header
from torch import nn

from do_conv.torch import DOConv2d, DOConvOptimizer
from examples import doors, tasks
from examples.report import __main__ as report
from examples.report import of_d, paper, rates, runs, sensitivity
from examples.sensitivity import settings, train

DOCS = Path(__file__).parents[2] / "docs"
RESULTS = Path(report.RESULTS) / train.FOLDER
# The quantile 0.975 of Student's t with nine degrees of freedom, from any table.
QUANTILE = 2.2622


def task(name):
    return train.Digits(name, settings.SETTINGS[name])


@pytest.mark.parametrize("name", settings.SETTINGS)
def test_a_setting_is_what_is_trained(name):
    wanted = settings.SETTINGS[name]
    given = train._arguments().parse_args([])
    model, optimizer, _ = tasks.made(given, task(name), "plain", 0)
    convolutions = [one for one in model if isinstance(one, nn.Conv2d)]
    assert len(convolutions) == wanted.depth
    assert {one.out_channels for one in convolutions} == {wanted.width}
    assert type(optimizer).__name__ == wanted.optimizer
    (group,) = optimizer.param_groups
    assert (group["lr"], group["weight_decay"]) == (wanted.rate, wanted.decay)
    images, classes = next(iter(task(name).batches(torch.Generator().manual_seed(0))))
    assert len(images) == len(classes) == wanted.batch


def test_no_digit_is_in_two_parts():
    parts = task("sgd")
    images = [parts._train[0], *(images for images, _ in parts._parts.values())]
    assert [len(one) for one in images] == [300, 1047, 450]
    rows = np.unique(torch.cat(images).flatten(1).numpy(), axis=0)
    from sklearn.datasets import load_digits

    assert len(rows) == len(np.unique(load_digits().data, axis=0))


def test_a_run_of_both_arms(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "STEPS", 3)
    options = ["--settings", "width-8", "--seeds", "0", "--epochs", "1", "--out", str(tmp_path)]
    assert train.main([*options, "--threads", "1"]) == 0
    for arm in tasks.ARMS:
        (line,) = found(tmp_path, arm)
        assert 0 < line["accuracy"] < 100
        assert 0 < line["validation"] < 100
    assert header(tmp_path, "do-conv")["kernel_size"].keys() == {"0", "3", "7", "10"}


@pytest.mark.parametrize("door", doors.DOORS)
def test_the_sizes_of_d(door):
    """D is the identity by 1.5, but for one channel, where it is the identity by 0.5."""
    factors = torch.tensor([1.5, 0.5])
    delta = (factors - 1)[:, None, None] * torch.eye(9)
    if door == doors.LAYERS:
        network, optimizer = nn.Sequential(DOConv2d(2, 4, 3)), None
        (parameter,) = (one for name, one in network.named_parameters() if "delta" in name)
    else:
        network = nn.Sequential(nn.Conv2d(2, 4, 3))
        optimizer = DOConvOptimizer(torch.optim.SGD(network.parameters(), 0.1), network)
        (kernel,) = optimizer.kernels.values()
        _, (_, parameter) = kernel.parts
    with torch.no_grad():
        parameter.copy_(delta.reshape(parameter.shape))
    (sizes,) = doors.Door("do-conv", door).kernel_sizes(network, optimizer).values()
    assert sizes == pytest.approx({"change": 0.5, "smallest": 0.5, "median": 1, "largest": 1.5})


def write(folder, name, arm, seed, first, last, validation):
    whose = {"experiment": f"digits-{name}", "arm": arm, "seed": seed}
    of_arm = {"door": "layers"} if arm == "do-conv" else {}
    place = {"versions": {"torch": "2"}, "machine": {"processor": "one", "threads": 1}}
    kept = {"epochs": 2, "measures": ["accuracy", "validation"], **of_arm}
    header_ = {**whose, "settings": kept, "places": [place]}
    (folder / f"digits-{name}-{arm}-seed{seed}.json").write_text(json.dumps(header_))
    lines = [{"accuracy": first, "validation": 1}, {"accuracy": last, "validation": validation}]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / f"digits-{name}-{arm}-seed{seed}.jsonl").write_text(text)


def tuned(folder, optimizer, gain):
    """At the rate that is best in validation the gain is this one, at the others it is large."""
    for name in settings.RATES[optimizer]:
        best = name.endswith("-rate-3")
        for seed in range(3):
            more = (gain if best else 10) + 0.1 * (seed - 1)
            write(folder, name, "plain", seed, 20, 80 + seed, 95 if best else 90)
            write(folder, name, "do-conv", seed, 30 + seed, 80 + seed + more, 95 if best else 90)


@pytest.mark.parametrize(
    ("gains", "sentence"),
    [
        ((0, -1), "no gain is shown on this task: +0.00 ± 0.25 with SGD and **-1.00 ± 0.25** with"),
        ((1, 2), "a gain remains on this task: **+1.00 ± 0.25** with SGD and **+2.00 ± 0.25** wit"),
        ((0, 2), "a gain remains on this task with Adam only: +0.00 ± 0.25 with SGD and **+2.00"),
    ],
)
def test_the_first_line_says_what_is_left_with_tuned_rates(tmp_path, gains, sentence):
    for optimizer, gain in zip(settings.RATES, gains, strict=True):
        tuned(tmp_path, optimizer, gain)
    text = sensitivity.page(runs.load(tmp_path), paper.by_depth())
    first = text.splitlines()[2]
    assert first.startswith(f"With the learning rate tuned for each arm, {sentence}")
    assert "After the first 50 steps, 6 of the\n6 gains here" in text


@pytest.mark.parametrize("absent", ["plain", "do-conv"])
def test_a_rate_is_chosen_once_all_have_the_same_seeds(tmp_path, absent):
    tuned(tmp_path, "SGD", 1)
    assert sensitivity.tuned(runs.load(tmp_path)).keys() == {"SGD"}
    for end in ("json", "jsonl"):
        (tmp_path / f"digits-sgd-rate-3-{absent}-seed2.{end}").unlink()
    assert not sensitivity.tuned(runs.load(tmp_path))


@pytest.mark.parametrize(
    ("shallow", "deep", "verdict"),
    [
        ([1, 2, 3], [0.1, 1, 2], "+0.97 ± 0.14: the shallowest gains more"),
        ([0.1, 1, 2], [1, 2, 3], "-0.97 ± 0.14: the deepest gains more"),
        ([1, 2, 3], [3, 1, 1], "+0.33 ± 5.17: no difference by depth is shown"),
        ([1], [0], "too few runs"),
        ([1, 2, 3], [], "too few runs"),
    ],
)
def test_gains_by_depth_are_compared_by_seed(tmp_path, shallow, deep, verdict):
    for depth, gains in ((2, shallow), (8, deep)):
        for seed, gain in enumerate(gains):
            write(tmp_path, f"depth-{depth}", "plain", seed, 20, 80, 90)
            write(tmp_path, f"depth-{depth}", "do-conv", seed, 20, 80 + gain, 90)
    text = sensitivity.page(runs.load(tmp_path), paper.by_depth())
    assert verdict in text


def test_the_paper_s_gains_by_depth():
    """Of Table 1, CIFAR-100: Plain-20, ResNet-v1-20 and v2-20; ResNet-v1-164 and v2-164."""
    assert paper.by_depth() == {"shallow": (0.27, 0.54), "deep": (0.03, 0.07)}


@pytest.mark.parametrize("variant", settings.VARIANTS)
def test_a_variant_of_d_is_what_is_trained(variant):
    options = settings.VARIANTS[variant]
    network, _, _ = tasks.made(train._arguments().parse_args(options), task("sgd"), "do-conv", 0)
    ours = [one for one in network if isinstance(one, DOConv2d)]
    assert len(ours) == (int(options[1]) if options[0] == "--first" else settings.BASE.depth)
    d_mul = {"dmul-wider": 25, "dmul-4": 36}.get(variant, 9)
    assert {one.spec.d_mul for one in ours} == {d_mul}
    assert all(bool(one.depthwise_delta.any()) == (variant == "he") for one in ours)


def test_a_variant_of_d_has_the_plain_runs_of_its_setting(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "STEPS", 2)
    common = ["--settings", "width-8", "--seeds", "0", "--epochs", "1", "--threads", "1"]
    common += ["--out", str(tmp_path)]
    for options in ([], ["--first", "2"], ["--d-mul", "4MN", "--door", "optimizer"]):
        assert train.main([*common, *options]) == 0
    experiments = runs.load(tmp_path)
    names = ("", "-first2", "-dmul-4-optimizer")
    plain = [experiments[f"digits-width-8{name}"].runs["plain"] for name in names]
    assert plain[0].keys() == {0}
    assert plain == [plain[0]] * 3
    assert len(list(tmp_path.glob("*-plain-*.json"))) == 1


def test_variants_of_d_are_compared_with_the_default_by_seed(tmp_path):
    for seed in range(3):
        write(tmp_path, "sgd", "plain", seed, 20, 80 + 3 * seed, 90)
        write(tmp_path, "sgd", "do-conv", seed, 20, 81 + 3 * seed, 90)
        write(tmp_path, "sgd-he", "do-conv", seed, 20, 79 + 3 * seed + 0.1 * seed, 90)
    found = runs.load(tmp_path)
    *_, default, he = of_d.table(found, "digits-sgd", "D = I", of_d.STARTS, 1).splitlines()
    # The standard deviation is 0.1, and 4.3027 the quantile 0.975 of Student's t: 0.25.
    assert default == "| D = I | 84.00 ± 3.00 | +1.00 |  |  | 3 |"
    assert he.startswith("| D of He et al. | 82.10 ± 3.10 | **-0.90 ± 0.25** |")
    assert he.endswith("| **-1.90 ± 0.25** | 3 |")
    assert not of_d.table(found, "digits-sgd", "D = I", of_d.D_MULS, 1)


def cells(title):
    """The cells of a section's first table, by its first column."""
    text = (DOCS / "when-it-helps.md").read_text("utf-8").partition(f"## {title}\n")[2]
    rows = [line.strip("|").split("|") for line in text.partition("\n## ")[0].splitlines()]
    return {row[0].strip(): [cell.strip() for cell in row] for row in rows if len(row) > 5}


@pytest.fixture(scope="module")
def published():
    return cells("By setting")


@pytest.mark.parametrize("variant", settings.VARIANTS)
def test_every_published_variant_is_that_of_the_files(variant):
    """Computed here anew, with no code of the page's."""

    def ends(name):
        files = (RESULTS / f"digits-{name}-seed{seed}.jsonl" for seed in range(10))
        return [json.loads(file.read_text().splitlines()[-1])["accuracy"] for file in files]

    row = cells("Which D")[{**sensitivity.LAYERS, **of_d.STARTS, **of_d.D_MULS}[variant]]
    own = ends(f"sgd-{variant}-do-conv")
    for others, column in (("sgd-plain", 2), ("sgd-do-conv", 4)):
        apart = [one - other for one, other in zip(own, ends(others), strict=True)]
        half = QUANTILE * statistics.stdev(apart) / 10**0.5
        shown = [float(one) for one in row[column].strip("*").split(" ± ")]
        assert shown == pytest.approx([statistics.mean(apart), half], abs=0.0051)
        assert row[column].startswith("**") == (abs(statistics.mean(apart)) > half)


@pytest.mark.parametrize("name", settings.SETTINGS)
def test_every_published_gain_is_that_of_the_files(name, published):
    """Computed here anew, with no code of the page's."""
    curves = {}
    for arm in tasks.ARMS:
        for seed in range(10):
            file = RESULTS / f"digits-{name}-{arm}-seed{seed}.jsonl"
            lines = [json.loads(line) for line in file.read_text().splitlines()]
            assert len(lines) == train.EPOCHS
            curves[arm, seed] = [line["accuracy"] for line in lines]
    for epoch, column in ((-1, 3), (0, 5)):
        differences = [curves["do-conv", seed][epoch] - curves["plain", seed][epoch]
                       for seed in range(10)]  # fmt: skip
        mean = statistics.mean(differences)
        half = QUANTILE * statistics.stdev(differences) / 10**0.5
        cell = published[sensitivity.LABELS[name]][column]
        shown = [float(one) for one in cell.strip("*").split(" ± ")]
        assert shown == pytest.approx([mean, half], abs=0.0051)
        assert cell.startswith("**") == (abs(mean) > half)


def test_the_page_is_as_it_is_written():
    of_rates = rates.section(runs.load(report.RESULTS))
    text = sensitivity.page(runs.load(RESULTS), paper.by_depth(), of_rates)
    written = (DOCS / "when-it-helps.md").read_text("utf-8")
    assert written == text, "run `make results`, then commit"
