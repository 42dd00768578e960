"""The README's examples run as they stand, each in a fresh process."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
BLOCKS = re.findall(r"### (\w+).*?```python\n(.*?)```", README.read_text(), flags=re.DOTALL)


def test_every_framework_has_an_example():
    assert [name for name, _ in BLOCKS] == ["PyTorch", "Keras", "MXNet", "Whole"]


@pytest.mark.parametrize(("name", "code"), BLOCKS, ids=[name for name, _ in BLOCKS])
def test_example(name, code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
