"""The command line itself: help, version, an interruption, a reader that leaves."""

import subprocess
import sys

import pytest

import do_conv
from do_conv.cli import main, parity

RUN = [sys.executable, "-m", "do_conv"]


def test_module_and_version():
    done = subprocess.run([*RUN, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"do-conv {do_conv.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said"), [([], "required: COMMAND"), (["unknown"], "'parity', 'demo'")]
)
def test_exit_code_2_without_a_command(arguments, said, capsys):
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert said in capsys.readouterr().err


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
