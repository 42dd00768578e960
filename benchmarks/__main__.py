"""Run benchmarks, each framework in a process of its own, and show what came out.

    python -m benchmarks [NAME ...] [--frameworks NAME ...] [--threads N] [--quick]

Medians, the middle half, and ratios to the first contender; only the ratios mean anything on
another machine. What is found goes to `benchmarks/results/NAME-FRAMEWORK.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

NAMES = ("composition", "layer")
FRAMEWORKS = {
    "torch": ("torch", {}),
    "keras-tensorflow": ("keras", {"KERAS_BACKEND": "tensorflow"}),
    "keras-jax": ("keras", {"KERAS_BACKEND": "jax"}),
    "gluon": ("gluon", {}),
}
RESULTS = Path(__file__).parent / "results"


def main() -> int:
    """Measure, and print a table for each file that was written."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--frameworks", nargs="+", choices=FRAMEWORKS, default=list(FRAMEWORKS))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--quick", action="store_true", help="the most telling sizes alone")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    unknown = set(given.names) - set(NAMES)
    if unknown:
        parser.error(f"the benchmarks are {', '.join(NAMES)}, not {', '.join(sorted(unknown))}")
    given.out.mkdir(parents=True, exist_ok=True)
    for name in given.names or NAMES:
        for framework in given.frameworks:
            path = given.out / f"{name}-{framework}.json"
            _measure(name, framework, path, given)
            _show(path)
    return 0


def _measure(name: str, framework: str, path: Path, given: argparse.Namespace) -> None:
    module, environment = FRAMEWORKS[framework]
    threads = str(given.threads)
    command = [sys.executable, "-m", "benchmarks.measure", name, module, path, "--threads", threads]
    subprocess.run(
        [*command, *(["--quick"] if given.quick else [])],
        env={**os.environ, "OMP_NUM_THREADS": threads, **environment},
        check=True,
    )


def _show(path: Path) -> None:
    report = json.loads(path.read_text(encoding="utf-8"))
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    threads = report["machine"]["threads"]
    table = Table(title=f"{path.stem}: {versions}, {threads} threads: ms (middle half), ratio")
    names = {name: None for row in report["rows"] for name in row["found"]}
    for head in ("", *names):
        table.add_column(head)
    for row in report["rows"]:
        sizes = ", ".join(f"{key} {value}" for key, value in row.items() if key != "found")
        table.add_row(sizes, *(_cell(row["found"].get(name)) for name in names))
    Console().print(table)


def _cell(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    low, high = (1000 * second for second in found["middle_half"])
    return f"{1000 * found['seconds']:.2f} ({low:.2f} to {high:.2f}), {found['ratio']:.2f}"


if __name__ == "__main__":
    sys.exit(main())
