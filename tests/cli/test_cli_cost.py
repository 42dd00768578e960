"""`do-conv cost` as a person and a program meet it."""

import json

import cpu_torchvision  # noqa: F401  # makes torchvision and timm importable
import pytest

from do_conv import MissingFrameworkError, zoo
from do_conv.cli import main

MODULE = """
from torch import nn

def small():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1))

def no_network():
    return {}

nothing = 3
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "networks_of_mine.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)


def test_a_table_of_ones_own_network(own, capsys):
    assert main(["cost", "networks_of_mine:small", "--image", "3x10x10", "--batch", "2"]) == 0
    said = capsys.readouterr().out
    assert "DOConv2d" in said
    assert "left: its kernel has one position" in said
    assert "1 of 2 convolutions" in said
    assert "MACs are for a batch of 2" in said
    assert f"{2 * 64 * 8 * 27 + 2 * 64 * 32:,}" in said


def test_json_has_what_the_table_has(own, capsys):
    assert main(["cost", "networks_of_mine:small", "--d-mul", "12", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    first, second = said["layers"]
    assert (first["becomes"], second["becomes"]) == ("DOConv2d", None)
    assert first["parameters"] == {"before": 224, "training": 224 + 8 * 3 * 3 + 3 * 12 * 9}
    assert said["macs"] == {"before": None, "training": None, "batch": 1}


@pytest.mark.parametrize("name", ["torchvision:resnet18", "timm:resnet18"])
def test_networks_of_a_zoo(name, capsys):
    assert main(["cost", name]) == 0
    assert "17 of 20 convolutions" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["resnet18"], "a network is named ZOO:NETWORK or MODULE:FUNCTION; received 'resnet18'"),
        (["timm:resnet81"], "a network must be one of the"),
        (["not_there:small"], "not_there:small, where there is no such function"),
        (["networks_of_mine:large"], "networks_of_mine:large, where there is no such function"),
        (["networks_of_mine:nothing"], "networks_of_mine:nothing, where there is no such function"),
        (["networks_of_mine:no_network"], "one of PyTorch, Keras or MXNet Gluon; received a dict"),
        (["networks_of_mine:small", "--image", "10"], "divided by x; received '10'"),
        (["networks_of_mine:small", "--batch", "0"], "--batch must be a positive integer"),
        (["networks_of_mine:small", "--d-mul", "8"], "d_mul must be at least"),
        (["networks_of_mine:small", "--composition", "both"], "composition must be one of"),
    ],
)
def test_exit_code_2_and_one_sentence(own, capsys, arguments, sentence):
    assert main(["cost", *arguments]) == 2
    said = capsys.readouterr()
    assert sentence in said.err
    assert said.err.count("\n") == 1
    assert not said.out


def test_a_module_that_lacks_another_shows_its_own_error(tmp_path, monkeypatch):
    (tmp_path / "networks_that_need.py").write_text("import not_there_at_all")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="not_there_at_all"):
        zoo.load("networks_that_need:small")


def test_exception_a_zoo_that_is_not_installed(monkeypatch):
    monkeypatch.setattr("do_conv.core.errors.is_installed", lambda package: package != "timm")
    match = r"the zoo timm needs timm, which is not installed; .*'do-conv\[zoo\]'"
    with pytest.raises(MissingFrameworkError, match=match):
        zoo.load("timm:resnet18")
