"""A type checker over users' scripts: it knows what comes back, and which arguments there are."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import do_conv
from do_conv.core.errors import is_installed

SCRIPTS = Path(__file__).parents[1] / "data" / "types"
FRAMEWORKS = {"torch": "torch", "keras": "keras", "gluon": "mxnet"}


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_type_checker_refuses_the_wrong_lines_alone(framework, tmp_path):
    pytest.importorskip("mypy")
    if not is_installed(FRAMEWORKS[framework]):
        pytest.skip(f"{framework} is not installed")
    script = SCRIPTS / f"{framework}_user.py"
    # As an installed package, whose types are read because it has a `py.typed`.
    installed = Path(do_conv.__file__).parents[1]
    command = [sys.executable, "-m", "mypy", "--config-file=", "--strict", "--no-error-summary"]
    done = subprocess.run(
        [*command, "--cache-dir", tmp_path / "cache", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    refused = {int(line) for line in re.findall(r"_user\.py:(\d+): error", done.stdout)}
    lines = script.read_text(encoding="utf-8").splitlines()
    wrong = {number for number, line in enumerate(lines, 1) if line.endswith("# refused")}
    assert refused == wrong, done.stdout + done.stderr
