"""`do-conv demo`, short: what it says, what it writes, and what it refuses."""

import json
import os
import stat
import sys
import types

import numpy as np
import pytest

from do_conv import MissingFrameworkError, frameworks
from do_conv import torch as do_torch
from do_conv.cli import main
from do_conv.demo import digits, experiment, report
from do_conv.demo.experiment import Outcome


@pytest.mark.parametrize("framework", ["torch", "gluon", "keras"])
def test_a_short_run(framework, tmp_path, capsys):
    out = tmp_path / "new" / "folder"
    options = ["--framework", framework, "--seeds", "1", "--epochs", "2", "--out", str(out)]
    assert main(["demo", *options]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "parameters, layers 18,347 parameters, folded 14,378" in said
    assert "Folded networks give the outputs of the trained ones." in said
    assert "1 seed, 2 epochs." in said
    assert said.endswith("train for more (--epochs) before you compare accuracies.")
    assert sorted(path.name for path in out.iterdir()) == ["demo.json", "demo.png"]
    assert (out / "demo.png").read_bytes().startswith(b"\x89PNG")
    ((_, accuracy),) = json.loads((out / "demo.json").read_text()).items()
    assert tuple(accuracy) == experiment.arms(framework)
    assert [len(curve) for (curve,) in accuracy.values()] == [2] * len(accuracy)
    assert min(curve[-1] for (curve,) in accuracy.values()) > 20
    assert accuracy["plain"] != accuracy["layers"]


@pytest.mark.parametrize("framework", ["torch", "gluon", "keras"])
def test_both_doors_have_the_same_accuracies(framework):
    if "optimizer" not in experiment.arms(framework):
        pytest.skip(f"{framework} has no optimizer of ours")
    found = experiment.run(framework, digits.load(), seeds=1, epochs=3, advance=lambda: None)
    assert found.accuracy["optimizer"] == found.accuracy["layers"]
    assert found.accuracy["optimizer"] != found.accuracy["plain"]
    assert found.holds


def test_the_same_seed_gives_the_same_curve():
    curves = [
        experiment.run("torch", digits.load(), seeds=1, epochs=1, advance=lambda: None).accuracy
        for _ in range(2)
    ]
    assert curves[0] == curves[1]


def test_every_arm_learns_the_digits_in_a_few_epochs():
    """Without momentum they would be at some 70 %."""
    outcome = experiment.run("torch", digits.load(), seeds=1, epochs=4, advance=lambda: None)
    assert min(max(curve) for (curve,) in outcome.accuracy.values()) > 90
    assert outcome.holds


def test_all_arms_see_every_image_at_most_once_an_epoch_in_a_new_order():
    data = digits.load()
    first, second = (
        np.concatenate([x for x, _ in digits.batches(data, 0, epoch)]) for epoch in (0, 1)
    )
    assert len(first) == 42 * digits.BATCH
    assert not np.array_equal(first, second)
    kept = {x.tobytes() for x in data.train_x}
    assert {x.tobytes() for x in first} <= kept
    assert not kept & {x.tobytes() for x in data.test_x}
    other_seed = np.concatenate([x for x, _ in digits.batches(data, 1, 0)])
    assert not np.array_equal(first, other_seed)


@pytest.mark.parametrize(
    ("plain", "said"),
    [
        ([[90.0, 95.0], [90.0, 95.1]], "Every network reached 95 %."),
        ([[90.0, 95.0], [90.0, 94.9]], "Only 3 of 4 networks reached 95 % in 2 epochs: train "),
        ([[90.0, 94.9], [90.0, 94.9]], "Only 2 of 4 networks reached 95 % in 2 epochs: train "),
    ],
)
def test_whether_the_networks_learned_enough(plain, said):
    outcome = Outcome("torch", "", accuracy={"plain": plain, "layers": [[95.0, 94.0]] * 2})
    assert report.learned([outcome], epochs=2).startswith(said)


def test_no_network_learned_enough():
    outcome = Outcome("torch", "", accuracy={"plain": [[94.0]], "layers": [[94.9]]})
    said = report.learned([outcome, outcome], epochs=1)
    assert said.startswith("No network reached 95 % in 1 epoch: train for more")


def test_epochs_to_the_goal():
    outcome = Outcome("torch", "", accuracy={"plain": [[90.0, 95.0, 94.0], [90.0, 91.0, 94.9]]})
    assert outcome.epochs_to_goal("plain") == [2, None]


def test_the_table_has_the_last_epochs_and_times_relative_to_the_plain_network():
    outcome = Outcome("torch", "torch 2")
    outcome.accuracy = {
        "plain": [[90.0, 94.0], [96.0, 96.0]], "layers": [[90.0, 96.0], [97.0, 98.0]],
    }  # fmt: skip
    outcome.parameters, outcome.fold_error = (1200, 800), 2e-7
    outcome.seconds = {"plain": 2.0, "layers": 3.0, "folded": 1.0}
    table = report.table([outcome], epochs=2)
    names, cells = (list(column.cells) for column in table.columns)
    assert dict(zip(names, cells, strict=True)) == {
        "accuracy, plain": "95.00 %\n94.00 to 96.00",
        "accuracy, layers": "97.00 %\n96.00 to 98.00",
        "accuracy, optimizer": "not offered",
        "to 95 %, plain": "1 of 2 seeds\nin 2 epochs",
        "to 95 %, layers": "1.5 epochs\n1 to 2",
        "to 95 %, optimizer": "not offered",
        "same bits at start": "yes",
        "changed by folding": "2.0e-07",
        "parameters, layers": "1,200",
        "parameters, folded": "800",
        "time, layers / plain's": "1.50x",
        "time, folded / plain's": "0.50x",
    }


class FirstWrong:
    """A function that changes the first model it gives."""

    def __init__(self, function):
        self.function, self.calls = function, 0

    def __call__(self, model):
        made = self.function(model)
        self.calls += 1
        if self.calls == 1:
            next(made.parameters()).data.add_(0.01)
        return made


@pytest.mark.parametrize("function", ["convert", "fold"])
def test_one_seed_that_does_not_start_or_fold_as_it_should_is_not_forgotten(function, monkeypatch):
    package = types.ModuleType("first_wrong")
    vars(package).update(convert=do_torch.convert, fold=do_torch.fold)
    setattr(package, function, FirstWrong(getattr(do_torch, function)))
    monkeypatch.setitem(sys.modules, "first_wrong", package)
    monkeypatch.setitem(sys.modules, "first_wrong.adapter", frameworks.adapter("torch"))
    backend = frameworks.Backend("PyTorch", "torch", "first_wrong")
    monkeypatch.setitem(frameworks.BACKENDS, "torch", backend)
    data = digits.load()
    few = digits.Digits(data.train_x[:64], data.train_y[:64], data.test_x, data.test_y)
    outcome = experiment.run("torch", few, seeds=2, epochs=1, advance=lambda: None)
    assert getattr(package, function).calls == 2
    assert (outcome.equal_at_start, outcome.fold_error > 0) == (
        function != "convert", function == "fold",
    )  # fmt: skip
    assert not outcome.holds


def test_exit_code_1_without_any_framework(tmp_path, capsys, monkeypatch):
    def missing(name):
        raise MissingFrameworkError(f"{name} is not installed")

    monkeypatch.setattr(frameworks, "adapter", missing)
    assert main(["demo", "--out", str(tmp_path)]) == 1
    assert "torch is left out: torch is not installed" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fault", [{"fold_error": 1e-3}, {"equal_at_start": False}])
def test_exit_code_1_if_a_network_does_not_start_or_fold_as_it_should(
    fault, tmp_path, capsys, monkeypatch
):
    right = experiment.run

    def wrong(*args, **kwargs):
        outcome = right(*args, **kwargs)
        vars(outcome).update(fault)
        return outcome

    monkeypatch.setattr(experiment, "run", wrong)
    options = ["--framework", "torch", "--seeds", "1", "--epochs", "1", "--out", str(tmp_path)]
    assert main(["demo", *options]) == 1
    assert "did not start or fold as it should" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--seeds", "--epochs"])
def test_exception_nothing_to_train(option, capsys, tmp_path):
    assert main(["demo", option, "0", "--out", str(tmp_path / "out")]) == 2
    assert f"{option} must be a positive integer; received {option}=0" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_exception_an_output_path_that_is_a_file(capsys, tmp_path):
    taken = tmp_path / "taken"
    taken.write_text("mine")
    assert main(["demo", "--framework", "torch", "--out", str(taken)]) == 2
    said = capsys.readouterr().err
    assert "an output path must be writable" in said
    assert str(taken) in said
    assert taken.read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to a read-only folder")
def test_exception_an_output_path_that_is_read_only(capsys, tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    assert main(["demo", "--framework", "torch", "--out", str(tmp_path)]) == 2
    assert "an output path must be writable" in capsys.readouterr().err


def test_exception_an_unknown_framework_leaves_no_folder(capsys, tmp_path):
    assert main(["demo", "--framework", "jax", "--out", str(tmp_path / "new")]) == 2
    assert "unknown framework 'jax'" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
