"""Converting and folding ResNet-152, its checkpoint too, and importing `do_conv`, in PyTorch.

A quick run has ResNet-50 instead.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.turns import take_turns
from do_conv.checkpoints.folding import fold as fold_file
from do_conv.torch import convert, fold, folded_state_dict
from tests.support.cpu_torchvision import torchvision


def rows(framework: Any, quick: bool, threads: int) -> Iterator[dict[str, Any]]:
    """Seconds of each; the first is what it takes to make the network."""
    name = "ResNet-50" if quick else "ResNet-152"
    make = getattr(torchvision.models, name.lower().replace("-", ""))
    plain = make()
    ours = convert(plain)
    with tempfile.TemporaryDirectory() as folder:
        given, written = Path(folder) / "given.pt", Path(folder) / "folded.pt"
        torch.save(ours.state_dict(), given)
        steps: dict[str, Callable[[], Any]] = {
            "make the network": make,
            "convert": lambda: convert(plain),
            "fold": lambda: fold(ours),
            "folded_state_dict": lambda: folded_state_dict(ours),
            "fold its checkpoint": lambda: fold_file(given, written),
        }
        yield {"step": "a network", "network": name, "found": take_turns(steps, 5.0, quick=quick)}
    steps = {
        "python alone": lambda: _run("pass"),
        "import numpy": lambda: _run("import numpy"),
        "import do_conv": lambda: _run("import do_conv"),
    }
    yield {"step": "a Python process", "found": take_turns(steps, 5.0, quick=quick)}


def _run(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True)
