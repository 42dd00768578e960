"""What an import brings along, in a fresh process; and that these tests can fail."""

import importlib
import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "keras", "tensorflow", "jax", "mxnet", "gluoncv", "matplotlib", "rich", "sklearn")


def imported(statement, names=HEAVY):
    """Which of `names` are loaded after a statement in a fresh process."""
    code = f"import sys\n{statement}\nprint(*[n for n in {names!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def failure(code, *, whole=False):
    """The last line a failing process says, or everything."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    return done.stderr if whole else done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("module", ["do_conv", "do_conv.core.cost", "do_conv.parity.training"])
def test_the_core_imports_nothing_but_numpy(module):
    assert imported(f"import {module}") == set()


def test_this_test_sees_a_heavy_import():
    assert imported("import do_conv.torch") >= {"torch"}


@pytest.mark.parametrize(
    ("module", "others"),
    [
        ("do_conv.torch", {"keras", "tensorflow", "mxnet", "jax"}),
        ("do_conv.tf", {"mxnet", "do_conv.torch", "do_conv.gluon"}),
        ("do_conv.gluon", {"torch", "keras", "tensorflow", "jax"}),
    ],
)
def test_a_backend_imports_no_other(module, others):
    assert imported(f"import {module}", tuple(others)) == set()


def test_mxnet_is_imported_with_the_names_numpy_removed():
    assert imported("import do_conv.gluon, mxnet", ("mxnet",)) == {"mxnet"}
    assert "module 'numpy' has no attribute 'bool'" in failure("import mxnet", whole=True)


# A package that cannot be found, and one that is there and fails.
ABSENT = """
import importlib.util, sys
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == {0!r} else found(name, *rest)
"""
BROKEN = """
import sys, importlib.abc, importlib.machinery
class Broken(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self) if name == {0!r} else None
    def create_module(self, spec): return None
    def exec_module(self, module): raise RuntimeError("its own trouble")
sys.meta_path.insert(0, Broken())
"""
FRAMEWORKS = [("torch", "torch"), ("tf", "keras"), ("gluon", "mxnet")]


@pytest.mark.parametrize(("module", "package"), FRAMEWORKS)
def test_a_missing_framework_is_one_sentence_with_the_command_that_brings_it(module, package):
    said = failure(ABSENT.format(package) + f"import do_conv.{module}")
    assert said == (
        f"do_conv.core.errors.MissingFrameworkError: do_conv.{module} needs {package}, which is "
        f"not installed; bring it with: pip install 'do-conv[{module}]' (in a checkout of it: "
        f"pip install '.[{module}]')."
    )


@pytest.mark.parametrize(("module", "package"), FRAMEWORKS)
def test_a_broken_framework_shows_its_own_error(module, package):
    said = failure(BROKEN.format(package) + f"import do_conv.{module}")
    assert said == "RuntimeError: its own trouble"


# As if they were not installed, which Keras learns from the import and we from the search.
WITHOUT = """
import importlib.util, sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name in {0!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hidden())
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in {0!r} else found(name, *rest)
"""


def kerass_choice(said):
    """What is said of the framework that Keras is set to compute with."""
    return said.partition("Keras is set to compute with ")[2].splitlines()[0]


@pytest.mark.parametrize(
    ("missing", "choice"),
    [
        (("tensorflow", "torch"), "set KERAS_BACKEND to jax, which you have, or bring it with: "),
        (("tensorflow",), "set KERAS_BACKEND to torch or jax, which you have, or bring it with: "),
        (("tensorflow", "torch", "jax"), "bring it with: "),
    ],
)
def test_keras_without_the_framework_it_computes_with(missing, choice, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    assert kerass_choice(failure(WITHOUT.format(missing) + "import do_conv.tf")) == (
        "tensorflow, by KERAS_BACKEND=tensorflow, and tensorflow is not installed; "
        f"{choice}pip install tensorflow."
    )


def test_keras_without_the_framework_of_its_own_choice(monkeypatch, tmp_path):
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    said = failure(WITHOUT.format(("tensorflow",)) + "import do_conv.tf")
    start = f"tensorflow, by its default or {tmp_path / 'keras.json'}, and tensorflow is not"
    assert kerass_choice(said).startswith(start)


@pytest.mark.parametrize("command", ["parity", "demo"])
def test_a_framework_asked_for_by_name_has_to_be_there(command, tmp_path):
    run = f"from do_conv.cli import main; sys.exit(main([{command!r}, '--framework', 'torch']))"
    assert failure(ABSENT.format("torch") + run) == (
        "do-conv: do_conv.torch needs torch, which is not installed; "
        "bring it with: pip install 'do-conv[torch]' (in a checkout of it: pip install '.[torch]')."
    )


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_keras_without_the_framework_it_computes_with_is_left_out_and_said_to_be(
    options, monkeypatch
):
    """The frameworks that are there agree, and the exit code says so."""
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    run = f"from do_conv.cli import main; sys.exit(main(['parity', '--case', 'plain', *{options}]))"
    code = WITHOUT.format(("tensorflow",)) + run
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    said = " ".join(done.stdout.split())
    assert "by KERAS_BACKEND=tensorflow, and tensorflow is not installed; set KERAS_BACKEND" in said
    if options:
        assert json.loads(done.stdout)["not_installed"] == ["keras"]
    else:
        assert "keras is left out: Keras is set to compute with tensorflow" in said
        assert "Every framework agrees with the core." in said


def test_with_keras_alone_and_not_what_it_computes_with_the_choice_is_said(monkeypatch):
    """JAX is there, and neither TensorFlow nor the other frameworks."""
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    run = "from do_conv.cli import main; print(main(['parity', '--case', 'plain']))"
    code = WITHOUT.format(("tensorflow", "torch", "mxnet")) + run
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    said = " ".join(done.stdout.split())
    assert "set KERAS_BACKEND to jax, which you have, or bring it with" in said
    assert "torch is left out: do_conv.torch needs torch, which is not installed" in said
    assert "no framework is installed" not in said
    assert said.endswith("1")


COMMANDS = ("parity", "demo", "fold", "import", "cost", "heatmap")
QUIETLY = """
import contextlib, io, sys
from do_conv.cli import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main({0!r})
"""


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids="-".join)
def test_help_needs_numpy_alone(command):
    others = (*HEAVY, "h5py", "safetensors", "timm", "torchvision")
    assert imported(QUIETLY.format([*command, "--help"]), others) == set()


def without_rich(*arguments):
    """The command line where rich cannot be imported."""
    code = WITHOUT.format(("rich",)) + (
        f"from do_conv.cli import main; sys.exit(main({list(arguments)!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    return done


def test_help_and_version_without_rich():
    assert without_rich("--help").stdout.startswith("usage: do-conv")
    assert without_rich("--version").stdout.startswith("do-conv ")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nothing"], "unknown command 'nothing'"),
        (["parity", "--case", "plian"], "unknown case 'plian'; did you mean plain"),
        (
            ["parity", "--framework", "jax"],
            "unknown framework 'jax'; choose from torch, keras, gluon.",
        ),
        (["demo", "--seeds", "0"], "--seeds must be a positive integer"),
        (
            ["demo", "--framework", "jax"],
            "unknown framework 'jax'; choose from torch, keras, gluon.",
        ),
        (["cost", "resnet18"], "a network is named ZOO:NETWORK"),
        (["fold", "not_there.pt", "out.pt"], "a checkpoint must be a file that can be read"),
        (["import", "not_there.pt", "out.pt"], "a checkpoint must be a file that can be read"),
        (["heatmap", "not_there.pt"], "a checkpoint must be a file that can be read"),
    ],
)
def test_errors_are_one_sentence_without_rich(arguments, sentence):
    done = without_rich(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(("command", "extra"), [("parity", "cli"), ("demo", "demo")])
def test_a_command_that_draws_tables_asks_for_rich(command, extra):
    done = without_rich(command)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"do-conv: do-conv {command} needs rich, which is not installed; bring it with: "
        f"pip install 'do-conv[{extra}]' (in a checkout of it: pip install '.[{extra}]').\n"
    )


def test_the_other_commands_run_without_rich(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("import torch\ndef one(): return torch.nn.Conv2d(3, 8, 3)\n")
    layer = importlib.import_module("do_conv.torch").DOConv2d(3, 8, 3)
    torch.save(layer.state_dict(), "ours.pt")
    said = {
        "fold": without_rich("fold", "ours.pt", "plain.pt"),
        "heatmap": without_rich("heatmap", "ours.pt"),
        "cost": without_rich("cost", "mine:one"),
    }
    assert {name: done.returncode for name, done in said.items()} == dict.fromkeys(said, 0)
    assert said["fold"].stdout.startswith("Folded 1 layer: ours.pt -> plain.pt\n")
    assert torch.equal(torch.load("plain.pt")["weight"], layer.composed_weight())
    assert "0.00 0.00 0.00" in said["heatmap"].stdout
    assert "DOConv2d" in said["cost"].stdout
