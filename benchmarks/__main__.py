"""Run benchmarks, each framework in a process of its own, and show what came out.

    python -m benchmarks [NAME ...] [--frameworks NAME ...] [--threads N] [--quick]

Medians, the middle half, and ratios to the first contender; only the ratios mean anything on
another machine. What is found goes to `benchmarks/results/NAME-FRAMEWORK.json`; what a quick run
finds goes to the folder `quick` there.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import rich.table
from rich.console import Console

from benchmarks.report import RESULTS, table

FRAMEWORKS = {
    "torch": ("torch", {}),
    "keras-tensorflow": ("keras", {"KERAS_BACKEND": "tensorflow"}),
    "keras-jax": ("keras", {"KERAS_BACKEND": "jax"}),
    "gluon": ("gluon", {}),
    "torch-cuda": ("cuda", {}),
}
# Each is a module here, and says what it measures.
NAMES = {
    "composition": tuple(FRAMEWORKS),
    "layer": tuple(FRAMEWORKS),
    "networks": tuple(FRAMEWORKS),
    "optimizer": tuple(FRAMEWORKS),
    "memory": ("torch",),
    "growth": ("torch",),
    "separable": ("torch",),
    "models": ("torch",),
    "seeds": ("torch",),
}
# A quick run has these alone.
QUICK: dict[str, tuple[str, ...]] = {
    "composition": ("torch", "keras-tensorflow", "gluon"),
    "layer": ("torch", "keras-tensorflow", "gluon"),
    "networks": ("torch",),
    "optimizer": ("torch",),
    "seeds": (),
}


def main() -> int:
    """Measure, and print a table for each file that was written."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--frameworks", nargs="+", choices=FRAMEWORKS, help="default: all at hand")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--quick", action="store_true", help="the most telling sizes alone")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results, or its folder quick")
    given = parser.parse_args()
    unknown = set(given.names) - set(NAMES)
    if unknown:
        parser.error(f"the benchmarks are {', '.join(NAMES)}, not {', '.join(sorted(unknown))}")
    chosen = given.frameworks or _at_hand()
    for name in given.names:
        if not set(chosen) & set(NAMES[name]):
            parser.error(f"{name} is measured with {', '.join(NAMES[name])}")
    out = given.out or (RESULTS / "quick" if given.quick else RESULTS)
    out.mkdir(parents=True, exist_ok=True)
    for name in given.names or NAMES:
        # A quick run leaves frameworks out, but not those that are named, nor all of a benchmark.
        few = QUICK.get(name, NAMES[name]) if given.quick and not given.frameworks else NAMES[name]
        for framework in few or (NAMES[name] if given.names else ()):
            if framework in chosen:
                path = out / f"{name}-{framework}.json"
                _measure(name, framework, path, given)
                _show(path)
    return 0


def _at_hand() -> list[str]:
    """All but those whose device is not here."""
    import torch

    return [name for name in FRAMEWORKS if name != "torch-cuda" or torch.cuda.is_available()]


def _measure(name: str, framework: str, path: Path, given: argparse.Namespace) -> None:
    module, environment = FRAMEWORKS[framework]
    threads = str(given.threads)
    command = [sys.executable, "-m", "benchmarks.measure", name, module, path, "--threads", threads]
    subprocess.run(
        [*command, *(["--quick"] if given.quick else [])],
        # XLA, under jax, has as many threads as NPROC says.
        env={**os.environ, "OMP_NUM_THREADS": threads, "NPROC": threads, **environment},
        check=True,
    )


def _show(path: Path) -> None:
    found = table(path)
    shown = rich.table.Table(title=f"{found.name}: {found.about}")
    for head in found.heads:
        shown.add_column(head)
    for line in found.lines:
        shown.add_row(*line)
    Console().print(shown)


if __name__ == "__main__":
    sys.exit(main())
