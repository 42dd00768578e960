"""Two processes that `torchrun` starts do together what one does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_recipes
import torch

from examples import doors
from examples.recipes import classification, training

ROOT = Path(__file__).parents[2]


def launched(*options):
    """What two processes print, and their exit code."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", tiny_recipes.__file__, *options]
    return subprocess.run(
        command, env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}, cwd=ROOT,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.fixture
def options(image_folder):
    common = ["--data", str(image_folder), "--network", "tiny", "--epochs", "2", "--classes", "3"]
    return [*common, "--size", "32", "--batch", "4", "--workers", "0", "--device", "cpu"]


def test_two_processes_do_what_one_does(options, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    options += ["--rate", "0.05"]
    one_process([*options, "--out", str(one)])
    ended = launched(*options, "--out", str(two))
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("epoch 2 of 2") == 1  # said by one of them
    assert_same(one, two)


@pytest.mark.parametrize("door", doors.DOORS)
def test_two_processes_take_up_what_one_has_left(options, tmp_path, door):
    one, two = tmp_path / "one", tmp_path / "two"
    options += ["--rate", "0.05", "--door", door]
    one_process([*options, "--out", str(one)])
    tiny_recipes.interrupted(lambda: one_process([*options, "--out", str(two)]))
    ended = launched(*options, "--out", str(two))
    assert ended.returncode == 0, ended.stderr
    assert "epoch 1 of 2" not in ended.stdout
    assert_same(one, two, "" if door == doors.LAYERS else f"-{door}")


def one_process(options):
    assert training.main(classification.Classification(), options) == 0


def assert_same(one, two, door=""):
    """Two runs have the same weights and lines, but for the order of additions."""
    name = f"imagenet-tiny{door}-do-conv-seed0"
    first, second = (torch.load(f / f"{name}.plain.pt", weights_only=True) for f in (one, two))
    assert first.keys() == second.keys() == tiny_recipes.Tiny(3).state_dict().keys()
    for key in first:
        assert torch.allclose(first[key], second[key], rtol=0, atol=1e-5)
    found = [(f / f"{name}.jsonl").read_text().splitlines() for f in (one, two)]
    for a, b in zip(*(map(json.loads, lines) for lines in found), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-5)
        assert a["accuracy"] == b["accuracy"]


def test_exception_what_one_process_finds_ends_both(options, tmp_path):
    """The first alone reads the settings, while the other waits for it."""
    options += ["--out", str(tmp_path / "out")]
    one_process(options)
    ended = launched(*options, "--rate", "0.5")
    assert ended.returncode != 0
    assert "not rate 0.5: name another folder with --out" in ended.stderr


def test_exception_a_batch_that_processes_cannot_share(monkeypatch):
    monkeypatch.setattr(training.distributed, "world", lambda: 3)
    with pytest.raises(ValueError, match="--batch 4 is for all processes together, and 3 cannot"):
        training.feeding.check(12, 4)


def test_exception_norms_of_one_process_cannot_be_synchronised(options, capsys, tmp_path):
    given = [*options, "--sync-bn", "--out", str(tmp_path)]
    assert training.main(classification.Classification(), given) == 2
    assert "--sync-bn needs several processes with a GPU each" in capsys.readouterr().err
