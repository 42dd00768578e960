"""Seeds of CIFAR trained side by side, on a few images that the test makes."""

import functools
import json

import numpy as np
import pytest
import torch
from task_runs import all_found, left

from examples import states, tasks
from examples.cifar import data, networks, schedules, stacked, train
from examples.records import Record

COUNTS = {"train.bin": 12, "test.bin": 6}
SEEDS = [3, 4]


class Double(data.Images):
    def normalised(self, images):
        return super().normalised(images).double()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    home = tmp_path / "data"
    (home / "cifar-100-binary").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for file, count in COUNTS.items():
        records = rng.integers(0, 100, (count, 2 + data.PIXELS), np.uint8)
        records.tofile(home / "cifar-100-binary" / file)
    monkeypatch.setattr(data, "TRAIN", {"cifar100": {"train.bin": COUNTS["train.bin"]}})
    monkeypatch.setattr(data, "TEST", {"cifar100": {"test.bin": COUNTS["test.bin"]}})
    for module in (stacked, train):
        monkeypatch.setattr(module, "BATCH", 8)
    return home


@pytest.fixture
def run(folder, tmp_path):
    def call(*options, out="results"):
        common = ["--data", str(folder), "--device", "cpu", "--threads", "1", "--iterations", "4"]
        seeds = ["--seeds", *map(str, SEEDS), "--out", str(tmp_path / out)]
        assert stacked.main([*common, *seeds, *options]) == 0
        return tmp_path / out

    return call


@pytest.mark.parametrize("arm", tasks.ARMS)
def test_a_seed_in_a_stack_is_trained_as_it_is_alone(folder, arm):
    command = ["--data", str(folder), "--precision", "float64", "--seeds", *map(str, SEEDS)]
    given = stacked._arguments().parse_args(command)
    images, test = data.load("cifar100", folder)
    plan = schedules.Schedule(2, lambda step, steps: 1 - step / 4)
    stack, optimizer = stacked.made(given, arm, "cpu")
    for epoch in (1, 2):
        step = stacked.compiled(given, stack, torch.device("cpu"))
        losses = stacked.train_epoch(SEEDS, stack, optimizer, images, plan, epoch, step)
    accuracies = stacked.evaluate(stack, test)
    kept = (images.images, images.labels, images.mean, images.deviation)
    for which, seed in enumerate(SEEDS):
        model, alone, _ = train.made(given, arm, seed)
        model.double()
        for epoch in (1, 2):
            loss = train.train_epoch(model, alone, Double(*kept), plan, epoch, seed)
        assert losses[which] == pytest.approx(loss, rel=1e-6)  # summed in float32
        for name, expected in model.state_dict().items():
            torch.testing.assert_close(
                stack.state_dict()[name][which], expected, rtol=1e-9, atol=1e-11
            )
        in_double = Double(test.images, test.labels, test.mean, test.deviation)
        assert accuracies[which] == pytest.approx(train.evaluate(model, in_double))


def test_a_stack_that_was_left_is_taken_up_to_the_same_result(taken_up):
    taken_up("--arms", "do-conv")


def without_training(*_):
    raise AssertionError("a run that has ended is trained again")


def test_more_seeds_leave_those_that_have_ended(run, monkeypatch):
    (first,) = run("--arms", "plain", "--seeds", "3").glob("*.jsonl")
    written = first.stat().st_mtime_ns
    both = all_found(run("--arms", "plain", "--seeds", "3", "4"))
    assert [len(lines) for lines in both.values()] == [2, 2]
    assert first.stat().st_mtime_ns == written
    monkeypatch.setattr(stacked, "train_epoch", without_training)
    assert all_found(run("--arms", "plain", "--seeds", "4", "3")) == both


def test_a_stack_that_was_left_at_its_very_end_is_finished(run, monkeypatch):
    """After its last state, before the header has what D did."""
    left(lambda: run("--arms", "do-conv", "--seeds", "3"), states, "note_kernels", 1)
    monkeypatch.setattr(stacked, "train_epoch", without_training)
    results = run("--arms", "do-conv", "--seeds", "3")
    (file,) = results.glob("*.json")
    assert "kernel_change" in json.loads(file.read_text())
    assert not list(results.glob("*.pt"))


def test_exception_a_state_of_other_seeds_is_not_lost(run, tmp_path, capsys):
    left(lambda: run("--arms", "plain", "--seeds", "3"), Record, "add", 2)
    before = all_found(tmp_path / "results")
    options = ["--data", str(tmp_path / "data"), "--device", "cpu", "--iterations", "4"]
    others = ["--out", str(tmp_path / "results"), "--arms", "plain", "--seeds", "3", "4"]
    assert stacked.main([*options, *others]) == 2
    said = capsys.readouterr().err
    assert "plain-seeds3.pt is the state of the seeds 3: train them to their end first" in said
    after = all_found(tmp_path / "results")
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize("arm", tasks.ARMS)
def test_a_step_on_cuda_is_one_graph(folder, monkeypatch, arm):
    """It is compiled here for the CPU, without generating code, in a shallower network."""
    monkeypatch.setattr(networks, "DEPTHS", (8,))
    for_the_cpu = functools.partial(torch.compile, backend="aot_eager", fullgraph=True)
    monkeypatch.setattr(torch, "compile", for_the_cpu)
    command = ["--data", str(folder), "--precision", "float64", "--network", "resnet_v2_8"]
    given = stacked._arguments().parse_args([*command, "--seeds", *map(str, SEEDS)])
    images, _ = data.load("cifar100", folder)
    found = []
    for device in ("cpu", "cuda"):
        stack, optimizer = stacked.made(given, arm, "cpu")
        step = stacked.compiled(given, stack, torch.device(device))
        plan = schedules.Schedule(1, lambda step, steps: 1.0)
        losses = stacked.train_epoch(SEEDS, stack, optimizer, images, plan, 1, step)
        found.append((losses, stack.state_dict()))
    (eager, expected), (losses, state) = found
    assert losses == pytest.approx(eager, rel=1e-6)  # summed in float32
    torch.testing.assert_close(state, expected, rtol=1e-9, atol=1e-11)


def test_the_files_are_those_of_runs_alone(run):
    results = run()
    names = {f"cifar100-resnet_v2_20-4iterations-{arm}-seed{seed}" for arm in tasks.ARMS
             for seed in SEEDS}  # fmt: skip
    assert {file.stem for file in results.glob("*.json")} == names
    for name in names:
        header = json.loads((results / f"{name}.json").read_text())
        assert header["settings"]["precision"] == "float32"
        assert ("kernel_change" in header) == ("do-conv" in name)


def test_the_full_schedule_is_that_of_the_runs_alone():
    full, given = schedules.SCHEDULES["full"], stacked.schedule(stacked.ITERATIONS, 391)
    assert given.epochs == full.epochs
    steps = range(0, 64_000, 125)
    assert [given.factor(step, 391) for step in steps] == [full.factor(one, 391) for one in steps]


def test_exception_no_data(tmp_path, capsys):
    assert stacked.main(["--data", str(tmp_path), "--device", "cpu"]) == 2
    assert "train.bin is not there" in capsys.readouterr().err
