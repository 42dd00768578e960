"""The page of the command line shows what the commands say today."""

import io
import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import nn

from do_conv import frameworks
from do_conv.cli import main
from do_conv.demo import report
from do_conv.demo.experiment import Outcome
from do_conv.parity.cases import CASES
from do_conv.torch import DOConv2d

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "command-line.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(?:text|console)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def shown(command):
    """What the page shows below a command."""
    (block,) = (one for one in BLOCK.findall(PAGE) if one.startswith(f"$ {command}\n"))
    return block.partition("\n")[2]


def test_a_name_that_does_not_exist(capsys):
    assert main(["parity", "--case", "d-mul-betwen"]) == 2
    assert capsys.readouterr().err == shown("do-conv parity --case d-mul-betwen")


def test_the_cases_that_pytorch_offers():
    absent = sum(
        frameworks.adapter("torch").not_offered(case) is not None for case in CASES.values()
    )
    table = PAGE.partition("  quantity              torch")[2]
    counts = re.search(r"  cases +(\d+) compared\n +(\d+) not offered\n", table)
    assert (int(counts[1]), int(counts[2])) == (len(CASES) - absent, absent)


def test_the_demo_s_table_and_picture_are_of_one_run():
    """`demo.json` is written beside the picture."""
    found = json.loads((DOCS / "images" / "demo.json").read_text(encoding="utf-8"))
    seconds = dict.fromkeys(["plain", "layers", "folded"], 1.0)
    outcomes = [
        Outcome("torch", versions, accuracy, seconds=seconds)
        for versions, accuracy in found.items()
    ]
    file = io.StringIO()
    Console(width=80, file=file).print(report.table(outcomes, epochs=12))
    lines = [line.rstrip() for line in file.getvalue().strip("\n").splitlines()]
    accuracies = "\n".join(lines[: next(i for i, one in enumerate(lines) if "same bits" in one)])
    assert accuracies.strip() in PAGE
    for accuracy in found.values():
        assert accuracy["optimizer"] == accuracy["layers"]


def test_a_network_of_a_zoo(capsys):
    if find_spec("mxnet") is None or find_spec("gluoncv") is None:
        pytest.skip("GluonCV is not installed")
    command = "do-conv cost gluoncv:cifar_resnet20_v1 --image 3x32x32"
    assert main(command.split()[1:]) == 0
    assert capsys.readouterr().out == shown(command)


def theirs(name, inputs, outputs, groups):
    """A layer of the authors' PyTorch code, as it is stored."""
    return {
        f"{name}.W": torch.ones(outputs, inputs // groups, 9),
        f"{name}.D": torch.ones(inputs, 9, 9),
        f"{name}.d_diag": torch.eye(9).repeat(inputs, 1, 1),
        f"{name}.bias": torch.ones(outputs),
    }


def test_a_checkpoint_of_the_authors(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    norm = {f"norm.{name}": tensor for name, tensor in nn.BatchNorm2d(4).state_dict().items()}
    torch.save({**theirs("conv1", 3, 4, 1), **norm, **theirs("conv2", 4, 4, 2)}, "theirs.pth")
    assert main(["import", "theirs.pth", "ours.pth"]) == 0
    assert capsys.readouterr().out == shown("do-conv import theirs.pth ours.pth")


def test_a_checkpoint_to_fold(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = nn.Sequential(DOConv2d(3, 4, 3), nn.BatchNorm2d(4), DOConv2d(4, 4, 3, groups=2))
    torch.save(model.state_dict(), "trained.pt")
    assert main(["fold", "trained.pt", "plain.pt"]) == 0
    assert capsys.readouterr().out == shown("do-conv fold trained.pt plain.pt")


def test_no_table_is_wider_than_a_terminal():
    lines = [line for block in BLOCK.findall(PAGE) for line in block.splitlines()]
    assert [line for line in lines if len(line) > 80 and not line.startswith("do-conv: ")] == []
    assert len(lines) > 50
