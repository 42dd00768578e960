"""The notebooks run from the first cell to the last, and their pictures show what D changed."""

import ast
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "notebooks"
# Each notebook: the package it needs, and the files it exports.
NOTEBOOKS = {
    "torch_digits.py": ("torch", ["torch-digits.onnx"]),
    "keras_digits.py": ("keras", ["keras-digits", "keras-digits.keras"]),
    "gluon_digits.py": (
        "mxnet",
        ["gluon-digits-0000.params", "gluon-digits-symbol.json", "gluon-digits.params"],
    ),
}
CELL = re.compile(r"^# %%( \[markdown\])?\n(.*?)(?=^# %%|\Z)", re.DOTALL | re.MULTILINE)
# After the cells: the largest value of each heat map, which is 0 where D is still the identity.
RUN = """
import runpy, sys
runpy.run_path(sys.argv[1])
from matplotlib import pyplot
(figure,) = map(pyplot.figure, pyplot.get_fignums())
print("heat maps:", *(float(i.get_array().max()) for a in figure.axes for i in a.images))
"""


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs(name, tmp_path):
    package, exported = NOTEBOOKS[name]
    if find_spec(package) is None:
        pytest.skip(f"not installed: {package}")
    settings = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", **os.environ}
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(FOLDER / name)],
        cwd=tmp_path,
        env={**settings, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *_, last = done.stdout.splitlines()
    changes = [float(number) for number in last.removeprefix("heat maps:").split()]
    assert len(changes) == 3
    assert min(changes) > 0
    accuracies = [float(found) for found in re.findall(r"test accuracy (\S+) %", done.stdout)]
    assert len(accuracies) == 2
    assert min(accuracies) > 80  # a tenth of the digits is right by chance
    if "\nno " not in done.stdout:
        assert sorted(path.name for path in (tmp_path / "exported").iterdir()) == exported


def test_every_notebook_is_run():
    assert {path.name for path in FOLDER.glob("*.py")} == set(NOTEBOOKS)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_cells_are_of_their_kind(name):
    text = (FOLDER / name).read_text(encoding="utf-8")
    cells = CELL.findall(text)
    assert text.startswith("# %% [markdown]\n# # ")
    assert sum(text.count(f"# %%{kind}\n") for kind in ("", " [markdown]")) == len(cells)
    for is_text, cell in cells:
        lines = [line for line in cell.splitlines() if line]
        assert lines
        if is_text:
            assert all(line.startswith("#") for line in lines), cell
        else:
            assert ast.parse(cell).body, cell
