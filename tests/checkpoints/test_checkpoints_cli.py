"""`do-conv fold` and `do-conv import` as a person and a program meet them."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from do_conv.cli import main
from do_conv.torch import DOConv2d


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = nn.Sequential(DOConv2d(3, 4, 3), nn.BatchNorm2d(4), DOConv2d(4, 4, 3, groups=2))
    torch.save({"model": model.state_dict(), "epoch": 3}, "in.pt")
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_fold_says_what_it_did(capsys):
    assert main(["fold", "in.pt", "out.pt"]) == 0
    said = capsys.readouterr()
    assert said.out == (
        "Folded 2 layers: in.pt -> out.pt\n"
        "772 numbers before, 205 after; 5 other tensors untouched.\n"
    )
    assert said.err == ""
    assert torch.load("out.pt")["epoch"] == 3


@pytest.mark.usefixtures("folder")
def test_json(capsys):
    assert main(["fold", "in.pt", "out.pt", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["source"], said["target"]) == ("in.pt", "out.pt")
    assert said["layers"][1] == {
        "name": "2", "kind": "over-parameterized", "kernel_size": [3, 3], "groups": 2, "d_mul": 9,
        "notes": [],
    }  # fmt: skip
    assert (said["passed"], said["numbers_before"], said["numbers_after"]) == (5, 772, 205)


def theirs(path, area=9):
    rng = np.random.default_rng(0)
    np.savez(
        path,
        **{"a.W": rng.standard_normal((6, 2, area)), "a.D": rng.standard_normal((4, area, area))},
        **{"b.W": np.ones((2, 3, 9)), "b.D": np.ones((3, 9, 9))},
    )


@pytest.mark.usefixtures("folder")
def test_import_names_the_layers_that_are_not_exact(capsys):
    theirs("in.npz")
    assert main(["import", "in.npz", "out.npz"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Imported 2 layers: in.npz -> out.npz\n")
    assert "Folded in the authors' order, D' is zero" in said
    assert "than the\npaper (1 layer):\n  a\n" in said
    assert "not its sides\n(2 layers):\n  a, b\n" in said


def many(path, *, layers=276):
    """As many layers as an image-restoration network has, behind a wrapper's prefix."""
    one = {"W": np.ones((2, 2, 9)), "D": np.zeros((2, 9, 9))}
    names = [f"module.Encoder.{k}.layers.{k % 20}.main.0.main.0" for k in range(layers)]
    np.savez(path, **{f"{name}.{role}": a for name in names for role, a in one.items()})
    return [name.removeprefix("module.") for name in names]


@pytest.mark.usefixtures("folder")
def test_many_layers_are_summarised(capsys):
    names = many("in.npz")
    assert main(["import", "in.npz", "out.npz", "--strip-prefix", "module."]) == 0
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 80
    assert len(said.splitlines()) <= 10
    assert "Taken as square: the file holds how many positions its kernel has" in said
    assert f"{names[4]} and 271 more" in " ".join(said.split())
    assert names[5] not in said
    assert "--verbose" in said


@pytest.mark.usefixtures("folder")
def test_verbose_names_every_layer_with_its_sizes(capsys):
    names = many("in.npz")
    options = ["--strip-prefix", "module.", "--verbose"]
    assert main(["import", "in.npz", "out.npz", *options]) == 0
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 80
    flowing = " ".join(said.split())  # a line that is too long goes on in the next
    for name in names:
        assert f" {name} over-parameterized 3 x 3, groups 1, D_mul 9 " in flowing
    assert "more" not in said
    assert main(["fold", "in.pt", "out.pt", "--verbose"]) == 0
    said = capsys.readouterr().out
    assert "\n  2  over-parameterized 3 x 3, groups 2, D_mul 9\n" in said


@pytest.mark.parametrize("size", ["3x5", "a=3x5"])
@pytest.mark.usefixtures("folder")
def test_import_with_kernels_that_are_not_square(size):
    theirs("in.npz", area=15)
    assert main(["import", "in.npz", "out.npz", "--kernel-size", size]) == 0
    assert np.load("out.npz")["a.weight"].shape == (6, 2, 3, 5)
    assert np.load("out.npz")["b.weight"].shape == (2, 3, 3, 3)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["fold", "in.pt", "in.pt"], "must be another file than the old one;"),
        (["fold", "absent.pt", "out.pt"], "must be a file that can be read;"),
        (["fold", "in.pt", "no/such/out.pt"], "an output path must be writable;"),
        (["fold", "bad.pt", "out.pt"], "must be a whole PyTorch file;"),
        (["import", "in.pt", "out.pt"], "must hold a layer of the original authors"),
        (["import", "in.pt", "out.pt", "--kernel-size", "3"], "must be HEIGHTxWIDTH or LAYER="),
        (["import", "in.pt", "out.pt", "--kernel-size", "0x3"], "must be HEIGHTxWIDTH or LAYER="),
    ],
)
def test_exit_code_2_and_one_line_and_no_file(command, said, capsys, folder):
    (folder / "bad.pt").write_bytes(b"PK\x03\x04")
    assert main(command) == 2
    heard = capsys.readouterr()
    assert said in heard.err
    assert heard.err.count("\n") == 1
    assert heard.out == ""
    assert sorted(path.name for path in folder.iterdir()) == ["bad.pt", "in.pt"]


def test_not_finite_kernels_only_if_asked_for(capsys, folder):
    torch.save({"weight": torch.full((2, 2, 3), torch.inf), "depthwise_delta": torch.ones(2, 3, 3)},
               folder / "bad.pt")  # fmt: skip
    assert main(["fold", "bad.pt", "out.pt"]) == 2
    assert "(--no-check-finite)" in capsys.readouterr().err
    assert main(["fold", "bad.pt", "out.pt", "--no-check-finite"]) == 0
    theirs = {"W": torch.full((2, 2, 9), torch.inf), "D": torch.ones(2, 9, 9)}
    torch.save(theirs, folder / "theirs.pt")
    assert main(["import", "theirs.pt", "ours.pt"]) == 2
    assert "(--no-check-finite)" in capsys.readouterr().err
    assert not (folder / "ours.pt").exists()
    assert main(["import", "theirs.pt", "ours.pt", "--no-check-finite"]) == 0
    assert torch.load("ours.pt")["weight"].isinf().all()


ABSENT = """
import importlib.util, sys
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == {0!r} else found(name, *rest)
from do_conv.cli import main
sys.exit(main(["fold", "in{1}", "out{1}"]))
"""


@pytest.mark.parametrize(
    ("package", "ending", "extra"),
    [("torch", ".pt", "torch"), ("safetensors", ".safetensors", "files"),
     ("h5py", ".weights.h5", "files")],
)  # fmt: skip
def test_what_reads_a_format_is_not_installed(package, ending, extra, folder):
    (folder / f"in{ending}").touch()
    code = ABSENT.format(package, ending)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    command = f"pip install 'do-conv[{extra}]' (in a checkout of it: pip install '.[{extra}]')"
    assert done.stderr.endswith(f"bring it with: {command}.\n")
    assert done.stderr.count("\n") == 1


def test_an_import_of_the_package_brings_nothing_heavy():
    code = (
        "import sys, do_conv.checkpoints, do_conv.checkpoints.neutral; "
        "print(*{'torch', 'h5py', 'mxnet', 'keras', 'safetensors', 'rich'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
