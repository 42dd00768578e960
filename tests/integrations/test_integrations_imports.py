"""The modules of the tools: their names, and which tools an import brings along."""

import importlib
import inspect
import subprocess
import sys
from importlib.util import find_spec

import pytest

TOOLS = (
    "pytorch_lightning", "lightning", "timm", "transformers", "accelerate", "skorch", "fastai",
    "mmengine", "monai", "segmentation_models_pytorch", "ultralytics", "torchvision",
)  # fmt: skip
# The tool of each module, the extra that brings it, and the module's public names.
MODULES = {
    "keras": ("keras", "tf", {"FoldedCheckpoint"}),
    "lightning": ("pytorch_lightning", "lightning", {"DOConvCallback"}),
    "timm_train": ("timm", "zoo", {"main"}),
    "huggingface": ("safetensors", "huggingface", {"DOConvCallback", "save_folded"}),
    "mmengine": ("mmengine", "mmengine", {"DOConvOptimWrapperConstructor"}),
}
ABSENT = """
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = (
    lambda name, *rest: None if name in ({0!r}, "lightning") else found(name, *rest)
)
import do_conv.integrations.{1}
"""


def said(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.split(), done.stderr.strip().splitlines()


@pytest.mark.parametrize(
    "module", ["do_conv", "do_conv.integrations", "do_conv.torch", "do_conv.tf"]
)
def test_no_tool_is_imported_with_the_library(module):
    if find_spec({"torch": "torch", "tf": "keras"}.get(module.rpartition(".")[2], "numpy")) is None:
        pytest.skip(f"the framework of {module} is not installed")
    loaded, errors = said(
        f"import sys, {module}\nprint('end', *[n for n in {TOOLS!r} if n in sys.modules])"
    )
    assert loaded == ["end"], errors


@pytest.mark.parametrize("module", MODULES)
def test_a_missing_tool_is_one_sentence_with_the_command_that_brings_it(module):
    tool, extra, _ = MODULES[module]
    _, errors = said(ABSENT.format(tool, module))
    assert errors[-1] == (
        f"do_conv.core.errors.MissingFrameworkError: do_conv.integrations.{module} needs {tool}, "
        f"which is not installed; bring it with: pip install 'do-conv[{extra}]' (in a checkout of "
        f"it: pip install '.[{extra}]')."
    )


@pytest.mark.filterwarnings("ignore")  # the tools' own, when they are imported
@pytest.mark.parametrize("module", MODULES)
def test_the_public_names_are_these_and_documented(module):
    tool, _, names = MODULES[module]
    if find_spec(tool) is None:
        pytest.skip(f"{tool} is not installed: make test-integrations")
    loaded = importlib.import_module(f"do_conv.integrations.{module}")
    assert set(loaded.__all__) == names
    assert all(inspect.getdoc(getattr(loaded, name)) for name in names)
