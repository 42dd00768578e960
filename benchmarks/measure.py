"""One benchmark in a process of its own: `python -m benchmarks.measure NAME FRAMEWORK OUT ...`.

A process for each, because frameworks share the machine's threads badly, and because Keras chooses
what it computes with when it is imported.
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
from datetime import date
from pathlib import Path
from typing import Any

from do_conv.files import replacing
from examples.records import processor


def main() -> None:
    """Measure, and write what was found as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("framework")
    parser.add_argument("out", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    framework = importlib.import_module(f"benchmarks.frameworks.{given.framework}")
    framework.set_threads(given.threads)
    found: list[dict[str, Any]] = []
    benchmark = importlib.import_module(f"benchmarks.{given.name}")
    for row in benchmark.rows(framework, given.quick, given.threads):
        print(given.framework, json.dumps(row), flush=True)
        found.append(row)
    machine = {
        "system": platform.system(), "processor": processor(), "threads": given.threads
    }  # fmt: skip
    versions = {"python": platform.python_version(), **framework.versions()}
    with replacing(given.out) as beside:
        report = {
            "date": date.today().isoformat(), "quick": given.quick, "machine": machine,
            "versions": versions, "rows": found,
        }  # fmt: skip
        beside.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
