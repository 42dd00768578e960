"""The command line itself: help, version, an interruption, a reader that leaves."""

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import do_conv
from do_conv import native
from do_conv.cli import main, parity

ROOT = Path(__file__).parents[2]

RUN = [sys.executable, "-m", "do_conv"]


def test_module_and_version():
    done = subprocess.run([*RUN, "--version"], capture_output=True, text=True, check=True)
    lines = dict(re.split(r"  +", line, maxsplit=1) for line in done.stdout.splitlines())
    assert lines["do-conv"] == do_conv.__version__
    assert lines["Python"].startswith(f"{platform.python_version()}, ")
    assert lines["NumPy"] == np.__version__
    assert lines["PyTorch"] == torch.__version__
    assert lines["C loops"] == ("compiled" if native.LIBRARIES else "none: not compiled")


def alone(code, folder):
    """What a program prints in an installation of do_conv and NumPy alone, in a folder."""
    for package in (do_conv, np):
        source = Path(package.__file__).parent
        (folder / source.name).symlink_to(source)
    libraries = Path(np.__file__).parents[1] / "numpy.libs"
    if libraries.exists():
        (folder / "numpy.libs").symlink_to(libraries)
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=folder, env={"PYTHONPATH": str(folder)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


def test_the_version_imports_no_framework_and_says_what_is_not_installed(tmp_path):
    code = "import sys; from do_conv.cli import version; print(version.text())"
    said = alone(
        code + "; print([name for name in ('torch', 'keras') if name in sys.modules])", tmp_path
    )
    for title in ("PyTorch", "Keras", "TensorFlow", "JAX", "MXNet"):
        assert re.search(rf"^{title} +not installed$", said, re.MULTILINE)
    assert said.endswith("[]\n")


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "none: not compiled"), (b"no library", r"none: .*_loops_float32_\w+\.so: .*")],
)
def test_the_version_says_why_there_are_no_loops(tmp_path, content, reason):
    package = tmp_path / "do_conv"
    shutil.copytree(ROOT / "do_conv", package, ignore=shutil.ignore_patterns("_loops_*"))
    if content is not None:
        for path in native.files().values():
            (package / "native" / path.name).write_bytes(content)
    said = subprocess.run(
        [*RUN, "--version"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert re.search(rf"^C loops  +{reason}$", said, re.MULTILINE)


def test_exit_code_2_without_a_command(capsys):
    with pytest.raises(SystemExit) as left:
        main([])
    assert left.value.code == 2
    assert "required: COMMAND" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("partiy", "did you mean parity? choose from parity, demo, fold, import, cost, heatmap."),
        ("train", "choose from parity, demo, fold, import, cost, heatmap."),
    ],
)
def test_exit_code_2_for_an_unknown_command(word, said, capsys):
    assert main([word]) == 2
    assert capsys.readouterr().err == f"do-conv: unknown command '{word}'; {said}\n"


def test_an_interruption_is_one_line(monkeypatch, capsys):
    def interrupted(names):
        raise KeyboardInterrupt

    monkeypatch.setattr(parity.framework_option, "names", interrupted)
    assert main(["parity"]) == 130
    assert capsys.readouterr().err == "do-conv: interrupted\n"


def test_a_reader_that_has_seen_enough_is_no_error():
    command = [*RUN, "parity", "--framework", "torch", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.read(1)
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
