"""Runs on CIFAR with another learning rate, and the section that compares them."""

import json

import torch
from torch import nn

from examples.cifar import data, schedules, stacked, state, train
from examples.report import rates, runs

SEEDS = (0, 1, 2)
PLACE = {"versions": {"torch": "2"}, "machine": {"processor": "one", "cores": 1, "threads": 1}}


def given(*options):
    return train._arguments().parse_args(["--data", "unused", *options])


def test_the_rate_is_the_optimizer_s_and_part_of_the_run():
    for arm in train.ARMS:
        _, optimizer, _ = train.made(given("--rate", "0.3"), arm, 0)
        assert {group["lr"] for group in optimizer.param_groups} == {0.3}
        name = state.experiment(given("--rate", "0.3"), arm)
        assert name == "cifar100-resnet_v2_20-rate-0.3"
        of_run = state.settings(given("--rate", "0.3"), arm)
        assert of_run["optimizer"] == "SGD 0.3, momentum 0.9, weight decay 0.0001"
    usual = state.settings(given(), "plain")
    assert usual["optimizer"] == "SGD 0.1, momentum 0.9, weight decay 0.0001"
    assert state.experiment(given(), "plain") == "cifar100-resnet_v2_20"


def write(folder, options, ends, seeds=SEEDS):
    """Runs of five equal epochs: the plain arm's accuracies rise by one with the seed."""
    for arm, end in zip(train.ARMS, ends, strict=True):
        if end is None:
            continue
        experiment = state.experiment(given(*options), arm)
        settings = {**state.settings(given(*options), arm), "epochs": 5}
        for seed in seeds:
            name = f"{experiment}-{arm}-seed{seed}"
            whose = {"experiment": experiment, "arm": arm, "seed": seed}
            header = {**whose, "settings": settings, "places": [PLACE]}
            (folder / f"{name}.json").write_text(json.dumps(header))
            accuracy = end + seed * (1 if arm == "plain" else 1.1)
            lines = [{**whose, "epoch": epoch, "accuracy": accuracy} for epoch in range(1, 6)]
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))


def lines_of(folder):
    text = rates.section(runs.load(folder))
    return [line for line in text.splitlines() if line.startswith("| ")][2:]


def test_a_schedule_multiplies_the_rate():
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 100))
    optimizer = torch.optim.SGD(network.parameters(), 0.3)
    zeros, one = torch.zeros(4, 3, 32, 32, dtype=torch.uint8), torch.ones(3, 1, 1)
    images = data.Images(zeros, torch.arange(4), one, one)
    half = schedules.Schedule(1, lambda step, steps: 0.5)
    train.train_epoch(network, optimizer, images, half, 1, 0)
    assert optimizer.param_groups[0]["lr"] == 0.15


def test_a_line_for_each_rate_and_one_of_each_arm_s_best(tmp_path):
    write(tmp_path, [], (50, 52), seeds=(*SEEDS, 3))
    write(tmp_path, ["--rate", "0.3"], (51, 51.5))
    write(tmp_path, ["--rate", "0.03"], (40, 41))
    small, usual, large, best = lines_of(tmp_path)
    # The differences of seeds 0, 1 and 2 are those of the ends, and 0.1 more for each seed.
    assert small.startswith("| 0.03 | 41.00 ± 1.00 | 42.10 ± 1.10 | **+1.10 ± 0.25** |")
    assert usual.startswith("| 0.1 | 51.50 ± 1.29 | 53.65 ± 1.42 | **+2.15 ± 0.21** |")
    assert large.startswith("| 0.3 | 52.00 ± 1.00 | 52.60 ± 1.10 | **+0.60 ± 0.25** |")
    expected = (
        "| the best of each arm: 0.3 and 0.1 | 52.00 ± 1.00 | 53.10 ± 1.10 | **+1.10 ± 0.25** |"
    )
    assert best.startswith(expected)


def test_what_cannot_be_compared_is_left_out(tmp_path):
    write(tmp_path, [], (50, 52))
    assert not rates.section(runs.load(tmp_path))
    write(tmp_path, ["--rate", "0.3"], (51, None))  # the plain arm alone
    write(tmp_path, ["--network", "mobilenet_v2"], (51, 52))
    write(tmp_path, ["--stages", "0"], (None, 52))
    assert not rates.section(runs.load(tmp_path))
    write(tmp_path, ["--rate", "0.2"], (53, 54), seeds=(7, 8))
    assert [line.split(" | ")[0] for line in lines_of(tmp_path)] == ["| 0.1", "| 0.2"]  # no best


def test_a_stack_has_the_rate_too():
    options = ["--data", "unused", "--rate", "0.3", "--seeds", "0", "1", "--precision", "float32"]
    _, optimizer = stacked.made(stacked._arguments().parse_args(options), "plain", "cpu")
    assert optimizer.defaults["lr"] == 0.3
