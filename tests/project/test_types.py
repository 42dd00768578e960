"""What a type checker says of a user's script: right lines pass, and wrong ones do not."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Each line with what is expected after `#`: a revealed type, an error's code, or nothing.
SCRIPT = """
from torch import nn
from do_conv import gluon, tf
from do_conv.torch import DOConv1d, DOConv2d, DOConvTranspose3d, convert, fold
net = nn.Sequential(nn.Conv2d(3, 4, 3))
reveal_type(convert(net))  # Sequential
reveal_type(fold(convert(net)))  # Sequential
reveal_type(fold(net, fuse_batchnorm=True))  # GraphModule
reveal_type(fold(DOConv2d(3, 4, 3)))  # Conv2d
reveal_type(DOConv1d(3, 4, 3).fold())  # Conv1d
reveal_type(DOConvTranspose3d(3, 4, 3).fold())  # ConvTranspose3d
DOConv2d(3, 4, 3, 1, 1, 1, 1, True, "zeros", d_mul=12, depthwise_init="he", composition="feature")
convert(net, where="layer1", depthwise_init="he", composition="feature")
convert(net, where=lambda name, layer: "head" not in name)
DOConv2d(3, 4, 3, depthwise_init="xavier")  # arg-type
DOConv2d(3, 4, 3, composition="both")  # arg-type
DOConv2d(3, 4, 3, D_mul=9)  # call-arg
DOConv2d(3, 4)  # call-arg
convert(net, depthwise_init="zeros")  # call-overload
convert(net, where=3)  # call-overload
convert(net.state_dict())  # call-overload
tf.DOConv2D(8, 3, activation="relu", d_mul=12, name="first", dtype="float32")
tf.DOConv2D(8, 3, dmul=9)  # call-arg
tf.DOConv2D(8, 3, depthwise_init="xavier")  # arg-type
gluon.DOConv2D(8, 3, in_channels=3, composition="both")  # arg-type
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """The checker's lines, by the number of the script's line."""
    folder = tmp_path_factory.mktemp("script")
    script = folder / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "mypy", "--config-file=", "--follow-imports=silent"]
    done = subprocess.run(
        [*command, "--ignore-missing-imports", "--cache-dir", str(folder), script.name],
        cwd=folder, env={**os.environ, "MYPYPATH": str(ROOT)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    found = {}
    for line in done.stdout.splitlines():
        match = re.match(r"script\.py:(\d+): (?:error|note): (.*)", line)
        if match is not None:
            found.setdefault(int(match[1]), []).append(match[2])
    assert found, done.stdout + done.stderr
    return found


LINES = [
    pytest.param(number, code, id=code.partition("  #")[0])
    for number, code in enumerate(SCRIPT.splitlines(), 1)
    if code and not code.startswith(("from", "net"))
]


@pytest.mark.parametrize(("number", "code"), LINES)
def test_a_line(said, number, code):
    expected, lines = code.partition("  # ")[2], "\n".join(said.get(number, []))
    if code.startswith("reveal_type"):
        assert re.search(rf'Revealed type is "[\w.]*\b{expected}"', lines), lines
    elif expected:
        assert f"[{expected}]" in lines
    else:
        assert lines == ""
