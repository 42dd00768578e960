"""GluonCV beside PyTorch 2, which it refuses by itself: each import in a fresh process."""

import subprocess
import sys
from importlib.util import find_spec

import pytest

pytestmark = pytest.mark.skipif(
    find_spec("gluoncv") is None or find_spec("torch") is None,
    reason="GluonCV or PyTorch is not installed",
)
VERSION = """
import importlib.metadata
found = importlib.metadata.version
importlib.metadata.version = lambda name: {0!r} if name == "torch" else found(name)
"""


def run(code):
    command = [sys.executable, "-W", "ignore", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("first", ["do_conv.gluon, gluoncv", "torch, do_conv.gluon, gluoncv"])
def test_it_imports_after_do_conv_gluon(first):
    done = run(
        f"import {first}, sys; print('torch' in sys.modules); import torch\n"
        "print(gluoncv.model_zoo.get_model('cifar_resnet20_v1').output, torch.ones(2).sum())"
    )
    assert done.returncode == 0, done.stderr
    imported = first.startswith("torch")
    assert done.stdout == f"{imported}\nDense(64 -> 10, linear) tensor(2.)\n"


def test_it_is_not_imported_before_it_is_asked_for():
    done = run("import sys, do_conv.gluon; print('gluoncv' in sys.modules)")
    assert done.stdout == "False\n"


def test_a_pytorch_that_gluoncv_takes_is_left_to_it():
    """It is asked then, and imports the PyTorch there is, which is too new for it."""
    done = run(VERSION.format("1.13.1") + "import do_conv.gluon, gluoncv")
    assert done.stderr.strip().splitlines()[-1].startswith("RuntimeError: Legacy torch==")


def test_without_pytorch_it_is_left_to_it_too():
    hidden = """
import importlib.metadata, sys
def missing(name, *_):
    if name == "torch":
        raise ModuleNotFoundError("No module named 'torch'", name=name)
class Hidden:
    find_spec = staticmethod(missing)
sys.meta_path.insert(0, Hidden())
def version(name):
    raise importlib.metadata.PackageNotFoundError(name)
importlib.metadata.version = version
"""
    done = run(hidden + "import do_conv.gluon, gluoncv; print(gluoncv._found_pytorch)")
    assert done.stdout == "False\n", done.stderr
