"""The examples in the docstrings of public classes run, in a process for each framework."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

# The network of a reader, which the examples of the optimizers take.
NETWORKS = {
    "do_conv.torch": "import torch, do_conv.torch; model = torch.nn.Conv2d(3, 4, 3)",
    "do_conv.tf": "import keras, do_conv.tf; "
    "model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)])",
    "do_conv.gluon": "import do_conv.gluon; from mxnet.gluon import nn; "
    "net = nn.Conv2D(4, 3, in_channels=3); net.initialize()",
}
# A package's public classes and their examples.
RUN = """
import doctest, importlib, inspect, sys
given = {}
exec(sys.argv[2], given)
package = importlib.import_module(sys.argv[1])
public = {name: getattr(package, name) for name in package.__all__}
classes = {name: one for name, one in public.items()
           if inspect.isclass(one) and not issubclass(one, Exception)}
runner, finder = doctest.DocTestRunner(), doctest.DocTestFinder(recurse=False)
without = []
for name, one in classes.items():
    (test,) = finder.find(one, name, globs=dict(given))
    without += [] if test.examples else [name]
    runner.run(test)
print("without an example:", sorted(without), "of", len(classes))
sys.exit(runner.summarize().failed)
"""
# `LayerCost` shows it.
WITHOUT = {"do_conv": ["Cost"]}


@pytest.mark.parametrize(
    ("package", "needed", "classes"),
    [
        ("do_conv", "numpy", 5),
        ("do_conv.torch", "torch", 16),
        ("do_conv.tf", "keras", 12),
        ("do_conv.gluon", "mxnet", 10),
        ("do_conv.torch.authors", "torch", 3),
        ("do_conv.torch.authors.edited", "torch", 2),
        ("do_conv.tf.authors", "keras", 1),
        ("do_conv.gluon.authors", "mxnet", 1),
    ],
)
def test_the_examples_of_the_classes(package, needed, classes):
    if find_spec(needed) is None:
        pytest.skip(f"not installed: {needed}")
    done = subprocess.run(
        [sys.executable, "-c", RUN, package, NETWORKS.get(package, "")],
        env={"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", **os.environ},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"without an example: {WITHOUT.get(package, [])} of {classes}\n" in done.stdout
