"""The loops in C: compiled where there is a compiler, and nothing is lost where there is none."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIBRARIES = {f"do_conv/torch/products/_native_{name}.so" for name in ("float32", "float64")}


@pytest.fixture
def project(tmp_path):
    for name in ("pyproject.toml", "README.md", "LICENSE", "hatch_build.py"):
        shutil.copy(ROOT / name, tmp_path)
    ignored = shutil.ignore_patterns("__pycache__", "_native_*")
    shutil.copytree(ROOT / "do_conv", tmp_path / "do_conv", ignore=ignored)
    return tmp_path


def wheel(project, **environment):
    """The wheel that is built, and what is said of it."""
    shutil.rmtree(project / "dist", ignore_errors=True)
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel"],
        cwd=project, env={**os.environ, **environment}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    (path,) = (project / "dist").iterdir()
    return path, done.stdout + done.stderr


def libraries(path):
    with zipfile.ZipFile(path) as archive:
        return {name for name in archive.namelist() if name.endswith(".so")}


def assert_plain(path, said, reason):
    """One of Python alone, for every machine, that says why."""
    assert libraries(path) == set()
    assert path.name.endswith("-py3-none-any.whl")
    assert f"do_conv is built without its C loops: {reason}" in said.replace("\n", " ")


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_a_compiler_that_comes_and_goes(project):
    path, said = wheel(project)
    assert libraries(path) == LIBRARIES
    assert "-py3-none-any" not in path.name
    assert "without" not in said
    assert_plain(*wheel(project, CC="false"), "false failed")
    assert not list((project / "do_conv").rglob("_native_*"))


def test_no_compiler_at_all(project):
    path, said = wheel(project, CC="no-such-compiler")
    assert_plain(path, said, "[Errno 2]")
    assert "no-such-compiler" in said
