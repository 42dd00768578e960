"""The time series, on a few that the test makes."""

import numpy as np
import pytest
import torch
from task_runs import found, header
from torch import nn

from examples import doors, packaged, tasks
from examples.time_series import networks, series, train

AEON = """# A comment.
@problemName JapaneseVowels
@classLabel true b a
@data
"""


def of_aeon(channels, label):
    return ":".join([*(",".join(map(str, channel)) for channel in channels), label])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A set of each package: JapaneseVowels of two channels, and Coffee."""
    home, rng = tmp_path / "data", np.random.default_rng(0)
    for name in ("JapaneseVowels", "Coffee"):
        (home / name).mkdir(parents=True)
    for part, count in (("TRAIN", 6), ("TEST", 4)):
        lines = [of_aeon(rng.normal(size=(2, 5 + i)), "ba"[i % 2]) for i in range(count)]
        file = home / "JapaneseVowels" / f"JapaneseVowels_{part}.ts"
        file.write_text(AEON + "\n".join(lines) + "\n")
        rows = [[i % 2, *rng.normal(size=12)] for i in range(count)]
        np.savetxt(home / "Coffee" / f"Coffee_{part}.txt", rows)
    for name, value in {"STEPS": 3, "BATCH": 4}.items():
        monkeypatch.setattr(train, name, value)
    return home


@pytest.fixture
def run(folder, tmp_path):
    def call(*options, out="results"):
        common = ["--data", str(folder), "--threads", "1", "--seeds", "0", "--epochs", "2"]
        which = ["--sets", "Coffee", "--networks", "fcn", "--out", str(tmp_path / out)]
        assert train.main([*common, *which, *options]) == 0
        return tmp_path / out

    return call


def test_a_line_for_each_epoch_and_a_header(run):
    results = run()
    for arm in tasks.ARMS:
        first, last = found(results, arm)
        assert {k: last[k] for k in ("experiment", "arm", "seed", "epoch")} == {
            "experiment": "Coffee-fcn", "arm": arm, "seed": 0, "epoch": 2,
        }  # fmt: skip
        assert first["epoch"] == 1
        assert last["accuracy"] in (0, 25, 50, 75, 100)
        assert header(results, arm)["settings"]["network"] == "fcn"
    changes = header(results, "do-conv")["kernel_change"]
    assert [np.shape(change) for change in changes.values()] == [(8,), (5,), (3,)]
    assert not list(results.glob("*.pt"))
    assert found(results, "plain")[0]["loss"] != found(results, "do-conv")[0]["loss"]


def test_a_run_for_each_set_and_network(run):
    results = run("--sets", "Coffee", "JapaneseVowels", "--networks", "fcn", "resnet")
    names = {f"{one}-{kind}-{arm}-seed0.json" for one in ("Coffee", "JapaneseVowels")
             for kind in networks.NETWORKS for arm in tasks.ARMS}  # fmt: skip
    assert {file.name for file in results.glob("*.json")} == names


@pytest.mark.parametrize("kind", networks.NETWORKS)
@pytest.mark.parametrize("door", doors.DOORS)
def test_a_run_that_was_left_is_taken_up_to_the_same_result(taken_up, door, kind):
    taken_up("--arms", "do-conv", "--door", door, "--networks", kind)


def test_both_doors_are_the_same_training(run):
    layers, optimizer = (run("--arms", "do-conv", "--door", door, out=door) for door in doors.DOORS)
    for one, other in zip(found(layers, "do-conv"), found(optimizer, "do-conv"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert other["experiment"] == f"{one['experiment']}-optimizer"


@pytest.mark.parametrize("kind", networks.NETWORKS)
def test_both_arms_start_from_the_same_weights(folder, kind):
    given = tasks.arguments("").parse_args([])
    task = train.Classification(series.load("JapaneseVowels", folder), kind)
    plain, ours = (tasks.made(given, task, arm, 3)[0] for arm in tasks.ARMS)
    x = torch.randn(2, 2, 10)
    assert torch.equal(plain.eval()(x), ours.eval()(x))


@pytest.mark.parametrize(("kind", "kernels"), [("fcn", 3), ("resnet", 9)])
@pytest.mark.parametrize("length", [5, 24])
def test_networks_have_their_layers_and_run(kind, kernels, length):
    model = networks.network(kind, 2, 6).eval()
    found_ = [one for one in model.modules() if isinstance(one, nn.Conv1d)]
    assert sum(one.kernel_size[0] > 1 for one in found_) == kernels
    with torch.no_grad():
        assert model(torch.zeros(3, 2, length)).shape == (3, 6)


def test_reading_a_set_of_each_package(tmp_path):
    files = {
        "JapaneseVowels/JapaneseVowels_TRAIN.ts": AEON + "0,2,4:1,1,1:b\n5,5,5,5,5:6,7,8,9,10:a\n",
        "JapaneseVowels/JapaneseVowels_TEST.ts": AEON + "1,2,3,4,5:0,0,0,0,0:b\n",
        "Coffee/Coffee_TRAIN.txt": "   1.0000000e+00   0.5   1.5\n  -1.0000000e+00  2.5  3.5\n",
        "Coffee/Coffee_TEST.txt": "   1.0000000e+00   4.5   5.5\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    vowels, coffee = (series.load(name, tmp_path) for name in ("JapaneseVowels", "Coffee"))
    # A series of three is stretched to the longest, which has five.
    assert vowels.train.series.tolist() == [
        [[0, 1, 2, 3, 4], [1, 1, 1, 1, 1]], [[5, 5, 5, 5, 5], [6, 7, 8, 9, 10]],
    ]  # fmt: skip
    assert (vowels.train.classes.tolist(), vowels.test.classes.tolist()) == ([1, 0], [1])
    assert coffee.train.series.tolist() == [[[0.5, 1.5]], [[2.5, 3.5]]]
    assert (coffee.train.classes.tolist(), coffee.test.classes.tolist()) == ([1, 0], [1])
    assert (vowels.classes, coffee.classes) == (2, 2)
    assert vowels.digest != coffee.digest


def test_batches_go_through_the_series_again_and_again(folder, monkeypatch):
    monkeypatch.setattr(train, "BATCH", 3)
    monkeypatch.setattr(train, "STEPS", 5)
    data = series.load("Coffee", folder)
    task = train.Classification(data, "fcn")
    batches = list(task.batches(torch.Generator().manual_seed(0)))
    assert [len(classes) for _, classes in batches] == [3] * 5
    drawn = torch.cat([inputs for inputs, _ in batches])
    which = [int((data.train.series == one).all((1, 2)).nonzero()) for one in drawn]
    assert sorted(which[:6]) == sorted(which[6:12]) == list(range(6))
    assert which[:6] != which[6:12]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "JapaneseVowels_TEST.ts is not there: install a version of its package"),
        ("1,2,x:3,4,5:a", "cannot be read as time series (could not convert string to float"),
        ("1,2,3:4,5:a", "cannot be read as time series (setting an array element with a sequence"),
        ("1,2:3,4:a\n1,2:a", "cannot be read as time series (series of different numbers of"),
        ("", "cannot be read as time series (no series): restore it"),
        ("1,2:3,4:c", "has the classes ['c'], which JapaneseVowels_TRAIN.ts has not: restore"),
    ],
)
def test_exception_missing_or_broken_files(folder, tmp_path, capsys, text, sentence):
    file = folder / "JapaneseVowels" / "JapaneseVowels_TEST.ts"
    file.unlink() if text is None else file.write_text(AEON + text)
    options = ["--data", str(folder), "--sets", "JapaneseVowels", "--out", str(tmp_path / "out")]
    assert train.main(options) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_exception_a_package_that_is_not_installed():
    with pytest.raises(FileNotFoundError, match="pip install --no-deps a-package, or give --data"):
        packaged.folder("a_package", "data", "a-package")


def test_a_package_is_found_by_its_files():
    found_ = packaged.folder("do_conv", "core", "do-conv")
    assert (found_ / "composition.py").is_file()
    assert packaged.digest([found_ / "spec.py"]) != packaged.digest([found_ / "composition.py"])


def test_the_learning_rate_is_a_half_cosine():
    factors = [tasks.factor(step, 100) for step in range(101)]
    assert (factors[0], factors[100]) == (1, 0)
    assert factors[25] == pytest.approx((1 + 2**-0.5) / 2)
    assert factors == sorted(factors, reverse=True)


def test_the_rate_goes_down_over_a_run(folder):
    """Over all its epochs, not over each."""
    task = train.Classification(series.load("Coffee", folder), "fcn")
    given = tasks.arguments("").parse_args(["--epochs", "2"])
    model, optimizer, _ = tasks.made(given, task, "do-conv", 0)
    rates = []
    optimizer.register_step_pre_hook(lambda one, *_: rates.append(one.param_groups[0]["lr"]))
    for epoch in (1, 2):
        tasks.train_epoch(given, task, model, optimizer, epoch, 0)
    assert rates == [tasks.RATE * tasks.factor(step, 6) for step in range(6)]
