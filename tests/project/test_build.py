"""The loops in C: compiled where there is a compiler, and nothing is lost where there is none."""

import ctypes
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = "do_conv/native"


@pytest.fixture
def project(tmp_path):
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore", "hatch_build.py"):
        shutil.copy(ROOT / name, tmp_path)
    ignored = shutil.ignore_patterns("__pycache__", "_loops_*")
    shutil.copytree(ROOT / "do_conv", tmp_path / "do_conv", ignore=ignored)
    return tmp_path


def wheel(project, kind="wheel", **environment):
    """The wheel that is built, and what is said of it."""
    shutil.rmtree(project / "dist", ignore_errors=True)
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", kind],
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
def test_a_compiler_that_comes_and_goes(project, tmp_path_factory):
    path, said = wheel(project)
    assert "-py3-none-any" not in path.name
    assert "C loops" not in said
    found = tmp_path_factory.mktemp("wheel")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(found)
    library = next((found / FOLDER).glob("_loops_float32_*.so"))
    assert ctypes.CDLL(str(library)).compose
    assert ctypes.CDLL(str(library)).step
    assert any(one in library.read_bytes() for one in (b"GOMP_parallel", b"__kmpc_fork_call"))
    assert len(libraries(path)) == 2
    assert_plain(*wheel(project, CC="false"), "false failed")
    assert not list((project / FOLDER).glob("_loops_*"))  # a wheel leaves no trace


@pytest.mark.parametrize("compiler", ["gcc", "clang"])  # of Linux, and of macOS
def test_each_compiler_takes_the_sources(project, compiler):
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}")
    path, _ = wheel(project, CC=compiler)
    assert len(libraries(path)) == 2


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_an_editable_installation_has_them_beside_their_source(project):
    stale = project / FOLDER / "_loops_float32_0.so"
    stale.touch()
    wheel(project, "wheel:editable")
    made = {path.name for path in (project / FOLDER).glob("_loops_*")}
    sources = [path.read_bytes() for path in sorted((project / FOLDER).glob("*.[ch]"))]
    digest = hashlib.sha256(b"".join(sources)).hexdigest()[:8]
    assert made == {f"_loops_float{bits}_{digest}.so" for bits in (32, 64)}


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_a_compiler_without_threads(project):
    compiler = project / "compiler"
    compiler.write_text('#!/bin/sh\ncase "$*" in *-fopenmp*) exit 1;; esac\nexec cc "$@"\n')
    compiler.chmod(0o755)
    path, said = wheel(project, CC=str(compiler))
    assert len(libraries(path)) == 2
    assert "the C loops have one thread" in said


def test_no_compiler_at_all(project):
    path, said = wheel(project, CC="no-such-compiler")
    assert_plain(path, said, "[Errno 2]")
    assert "no-such-compiler" in said


@pytest.mark.parametrize("repository", [None, "owner/name"])
def test_the_links_of_the_page_go_to_the_repository_of_the_release(project, repository):
    given = {name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")}
    if repository:
        server = "https://github.com"
        given |= {"GITHUB_SERVER_URL": server, "GITHUB_REPOSITORY": repository}
        given["GITHUB_REF_NAME"] = "v1.2"
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "metadata"],
        cwd=project, env=given, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    page, readme = found["readme"]["text"], (ROOT / "README.md").read_text("utf-8")
    relative = re.findall(r"\]\((?!https?:|#)([^)]+)\)", page)
    if repository is None:
        assert page == readme
        assert "Repository" not in found["urls"]
        return
    assert relative == []
    assert found["urls"]["Repository"] == "https://github.com/owner/name"
    there = "https://github.com/owner/name"
    assert f"]({there}/blob/v1.2/docs/choosing.md#does-it-help-me)" in page
    assert f"]({there}/raw/v1.2/docs/images/layer.svg)" in page
