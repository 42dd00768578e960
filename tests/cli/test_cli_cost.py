"""`do-conv cost` as a person and a program meet it."""

import json
import re
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import cpu_torchvision  # noqa: F401  # makes torchvision and timm importable
import pytest

from do_conv import MissingFrameworkError, zoo
from do_conv.cli import main

EXAMPLE = Path(__file__).parents[2] / "examples" / "fine_tune" / "torch_digits.py"
MODULE = """
from torch import nn

def small():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1))

def lazy():
    return nn.LazyConv2d(8, 3)

def for_larger_images():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 64, 2))

def of_width(width, depth=1):
    return nn.Conv2d(3, width, 3)

def no_network():
    return {}

nothing = 3
"""


IN_KERAS = """
import keras
from keras import layers

def of_any_size(data_format, channels_first):
    size = (3, None, None) if channels_first else (None, None, 3)
    inner = keras.Sequential([layers.Conv2D(8, 3, strides=(2, 1), data_format=data_format)])
    return keras.Sequential([keras.Input(size), layers.Activation("relu"), inner])

def channels_last():
    return of_any_size("channels_last", False)

def channels_first():
    return of_any_size("channels_first", True)

def by_setting():
    first = keras.config.image_data_format() == "channels_first"
    return of_any_size(None, first)

def mobile():
    first = keras.config.image_data_format() == "channels_first"
    size = (3, 64, 32) if first else (64, 32, 3)
    return keras.applications.MobileNet(size, 0.25, weights=None, include_top=False)

def one_axis():
    return keras.Sequential([keras.Input((None, 3)), layers.Conv1D(8, 3)])

def of_two_inputs():
    one, two = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    return keras.Model([one, two], layers.Conv2D(4, 3)(one + two))
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "networks_of_mine.py").write_text(MODULE)
    (tmp_path / "keras_of_mine.py").write_text(IN_KERAS)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def setting():
    """Sets Keras's order of axes for the length of a test."""
    keras = pytest.importorskip("keras")
    before = keras.config.image_data_format()
    yield keras.config.set_image_data_format
    keras.config.set_image_data_format(before)


def counted(capsys, *arguments):
    assert main(["cost", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_table_of_ones_own_network(own, capsys):
    assert main(["cost", "networks_of_mine:small", "--image", "3x10x10", "--batch", "2"]) == 0
    said = capsys.readouterr().out
    assert "DOConv2d" in said
    assert "left: a 1 x 1 kernel has nothing to over-parameterize" in said
    assert "1 of 2 convolutions" in said
    assert "MACs are for a batch of 2" in said
    assert "  31.7 k" in said  # 2 * 64 * 8 * 27 + 2 * 64 * 32, as far as the table goes
    assert max(map(len, said.splitlines())) <= 80
    assert re.search(r"training step will take about \d\.\d\d times as long", said)


@pytest.mark.parametrize(("function", "code"), [("small", 0), ("large", 2)])
def test_the_folder_does_not_stay_on_the_path_of_modules(own, function, code):
    before = list(sys.path)
    assert main(["cost", f"networks_of_mine:{function}"]) == code
    assert sys.path == before


@pytest.mark.parametrize(
    ("network", "said"),
    [
        ("./networks_of_mine:small", "must have a name that can be imported .*mynet:network"),
        ("..:small", "must have a name that can be imported"),
        ("networks_of_mine:of_width", "received networks_of_mine:of_width, which needs width;"),
    ],
)
def test_exception_a_function_that_cannot_be_called(own, capsys, network, said):
    assert main(["cost", network]) == 2
    assert re.search(said, capsys.readouterr().err.replace("\n", " "))


def test_json_has_what_the_table_has(own, capsys):
    assert main(["cost", "networks_of_mine:small", "--d-mul", "12", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    first, second = said["layers"]
    assert (first["becomes"], second["becomes"]) == ("DOConv2d", None)
    assert first["parameters"] == {"before": 224, "training": 224 + 8 * 3 * 3 + 3 * 12 * 9}
    assert said["macs"] == {"before": None, "training": None, "batch": 1}
    assert said["step_ratio"] is None
    with_image = counted(capsys, "networks_of_mine:small", "--image", "3x10x10")
    assert with_image["step_ratio"] > 1
    assert with_image["macs"]["before"] == 64 * 8 * 27 + 64 * 32


def test_counts_that_are_not_known_are_null(own, capsys):
    said = counted(capsys, "networks_of_mine:lazy")
    assert said["parameters"] == {"before": None, "training": None}
    assert said["layers"][0]["parameters"] == {"before": None, "training": None}
    said = counted(capsys, "networks_of_mine:lazy", "--image", "3x10x10")
    assert said["parameters"]["before"] is not None


@pytest.mark.parametrize("order", ["channels_last", "channels_first"])
@pytest.mark.parametrize("network", ["channels_last", "channels_first", "by_setting"])
def test_an_image_has_its_channels_first_whatever_a_keras_model_has(
    own, setting, capsys, network, order
):
    setting(order)
    said = counted(capsys, f"keras_of_mine:{network}", "--image", "3x9x7", "--batch", "2")
    assert said["macs"]["before"] == 2 * (4 * 5) * 8 * 27
    assert said["macs"]["batch"] == 2


@pytest.mark.parametrize("order", ["channels_last", "channels_first"])
def test_a_network_of_keras_applications_in_either_order(own, setting, capsys, order):
    setting(order)
    said = counted(capsys, "keras_of_mine:mobile", "--image", "3x64x32", "--batch", "3")
    macs = {layer["name"]: layer["macs"]["before"] for layer in said["layers"]}
    assert macs["conv1"] == 3 * (32 * 16) * 8 * 27
    assert macs["conv_dw_2"] == 3 * (16 * 8) * 16 * 9
    assert counted(capsys, "keras_of_mine:mobile", "--batch", "3") == said


def test_an_image_of_one_axis(own, setting, capsys):
    said = counted(capsys, "keras_of_mine:one_axis", "--image", "3x10")
    assert said["macs"]["before"] == 8 * 8 * 9


def test_a_network_of_gluoncv(capsys):
    if find_spec("mxnet") is None or find_spec("gluoncv") is None:
        pytest.skip("GluonCV is not installed")
    said = counted(capsys, "gluoncv:cifar_resnet20_v1", "--image", "3x32x16", "--batch", "2")
    assert said["layers"][0]["macs"]["before"] == 2 * (32 * 16) * 16 * 27
    assert said["macs"]["batch"] == 2


@pytest.mark.parametrize("name", ["torchvision:resnet18", "timm:resnet18"])
def test_networks_of_a_zoo(name, capsys):
    assert main(["cost", name]) == 0
    assert "17 of 20 convolutions" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["resnet18"], "a network is named ZOO:NETWORK or MODULE:FUNCTION; received 'resnet18'"),
        (["timm:resnet81"], "unknown network 'resnet81'; did you mean resnet18 or "),
        (
            ["not_there:small"],
            "unknown zoo or module 'not_there'; choose from torchvision, timm, keras, gluoncv.",
        ),
        (["networks_of_mine:large"], "unknown function of networks_of_mine 'large'; "),
        (["networks_of_mine:nothing"], "unknown function of networks_of_mine 'nothing'; "),
        (["networks_of_mine:no_network"], "one of PyTorch, Keras or MXNet Gluon; received a dict"),
        (["networks_of_mine:small", "--image", "10"], "divided by x; received '10'"),
        (
            ["networks_of_mine:for_larger_images", "--image", "3x8x8"],
            "received images of size 3x8x8, which fail with: mat1 and mat2",
        ),
        (
            ["networks_of_mine:small", "--image", "1x8x8"],
            "fail with: Given groups=1, weight of size",
        ),
        (["networks_of_mine:small", "--batch", "0"], "--batch must be a positive integer"),
        (["networks_of_mine:small", "--d-mul", "8"], "d_mul must be at least"),
        (["networks_of_mine:small", "--composition", "both"], "unknown composition 'both'"),
    ],
)
def test_exit_code_2_and_one_sentence(own, capsys, arguments, sentence):
    assert main(["cost", *arguments]) == 2
    said = capsys.readouterr()
    assert sentence in said.err
    assert said.err.count("\n") == 1
    assert not said.out


@pytest.mark.parametrize(
    ("network", "image", "sentence"),
    [
        ("channels_last", "1x9x7", "made for 3 input channels, on axis 3; received an input of"),
        ("channels_first", "1x9x7", "which fail with: Input 0 with name"),
        ("mobile", "3x32x32", "which fail with: Input 0 with name"),
        ("of_two_inputs", "3x8x8", "expects 2 named input(s)"),
    ],
)
def test_exception_an_image_that_a_keras_model_does_not_take(
    own, setting, capsys, network, image, sentence
):
    assert main(["cost", f"keras_of_mine:{network}", "--image", image]) == 2
    said = capsys.readouterr()
    assert sentence in said.err
    assert said.err.count("\n") == 1


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


OF_ANOTHER_BUILD = """
import importlib.abc, importlib.machinery, runpy, sys
class Broken(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self) if name == "torchvision" else None
    def create_module(self, spec): return None
    def exec_module(self, module): raise RuntimeError({0!r})
sys.meta_path.insert(0, Broken())
sys.argv[:] = {1!r}
"""
COMMAND = "from do_conv.cli import main; sys.exit(main(sys.argv))"
NMS = "operator torchvision::nms does not exist"


def with_broken_torchvision(trouble, code, *arguments):
    """What a fresh process says last in which torchvision fails to be imported."""
    code = OF_ANOTHER_BUILD.format(trouble, list(arguments)) + code
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode
    return done.stderr.splitlines()


@pytest.mark.parametrize("network", ["torchvision:resnet18", "timm:resnet18"])
def test_exception_a_torchvision_for_another_pytorch(network):
    (said,) = with_broken_torchvision(NMS, COMMAND, "cost", network)
    torch, torchvision = version("torch"), version("torchvision")
    assert said.startswith(
        "do-conv: torchvision must be built for the PyTorch that is installed; received a "
        f"torchvision {torchvision} for another build than torch {torch}; "
        f"bring its build with: pip install --force-reinstall --no-deps torchvision=={torchvision}"
    )
    assert re.search(r"--index-url https://download.pytorch.org/whl/(cpu|cu\d+)\.$", said)


def test_exception_so_does_the_example_say():
    example = f"runpy.run_path({str(EXAMPLE)!r}, run_name='__main__')"
    said = with_broken_torchvision(NMS, example, "torch_digits.py", "--epochs", "1", "--steps", "1")
    assert "DOConvError: torchvision must be built for the PyTorch that is installed" in said[-1]


def test_another_trouble_of_torchvision_shows_itself():
    said = with_broken_torchvision("its own trouble", COMMAND, "cost", "torchvision:resnet18")
    assert said[-1] == "RuntimeError: its own trouble"
