"""What an import brings along, in a fresh process; and that these tests can fail."""

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
        f"not installed; bring it with: pip install 'do-conv[{module}]'."
    )


@pytest.mark.parametrize(("module", "package"), FRAMEWORKS)
def test_a_broken_framework_shows_its_own_error(module, package):
    said = failure(BROKEN.format(package) + f"import do_conv.{module}")
    assert said == "RuntimeError: its own trouble"


NO_TENSORFLOW = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name == "tensorflow":
            raise ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow")
sys.meta_path.insert(0, Hidden())
import os; os.environ["KERAS_BACKEND"] = "tensorflow"
"""


def test_keras_without_the_framework_it_computes_with():
    said = failure(NO_TENSORFLOW + "import do_conv.tf")
    assert "Keras is set to compute with tensorflow, which is not installed; bring it" in said
    assert "pip install tensorflow, or set the environment variable KERAS_BACKEND" in said


@pytest.mark.parametrize("command", ["parity", "demo"])
def test_a_framework_asked_for_by_name_has_to_be_there(command, tmp_path):
    run = f"from do_conv.cli import main; sys.exit(main([{command!r}, '--framework', 'torch']))"
    assert failure(ABSENT.format("torch") + run) == (
        "do-conv: do_conv.torch needs torch, which is not installed; "
        "bring it with: pip install 'do-conv[torch]'."
    )


def test_keras_without_the_framework_it_computes_with_is_left_out_unless_asked_for():
    """Here the frameworks that are there agree, and the exit code says so."""
    run = "from do_conv.cli import main; sys.exit(main(['parity', '--case', 'plain', '--json']))"
    code = NO_TENSORFLOW + run
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert '"not_installed": [\n  "keras"\n ]' in done.stdout
