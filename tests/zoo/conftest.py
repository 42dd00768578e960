"""The zoos: a few networks of each by default, all of them with `--zoo`, and a table of the result.

A test gives its line of the table to `zoo_row`. `--zoo-page FILE` writes the lines into a page of
the documentation; lines of networks that were not looked at this time stay.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from pathlib import Path

import pytest

COLUMNS = ("zoo", "network", "converted", "left", "after converting", "after training and folding")
PACKAGES = ("torch", "timm", "torchvision", "keras", "tensorflow-cpu", "mxnet", "gluoncv", "numpy")
HEAD = """# Zoos

Networks of the frameworks' model zoos, with random weights (seed 0) and small inputs. Each is
converted, trained for five steps, and folded. The table has the convolutions that were converted
and left, the largest difference of the outputs between the plain and the converted network, and
that between the trained network and the folded one, both relative to the largest output. The folded
network has the layer types, parameter names and shapes of the plain one.

`make test-zoo` runs all of it and writes this page; a few networks of each zoo are looked at by
`make test`.
"""


def pytest_addoption(parser):
    parser.addoption("--zoo", action="store_true", help="all networks, not the quick ones alone")
    parser.addoption("--zoo-page", type=Path, help="write the result into this page")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--zoo"):
        return
    slow = [item for item in items if item.get_closest_marker("slow_network")]
    config.hook.pytest_deselected(items=slow)
    items[:] = [item for item in items if item not in slow]


@pytest.fixture
def zoo_row(record_property):
    """Keep a line of the table: a dict with the keys of `COLUMNS`."""
    return lambda **row: record_property("zoo_row", json.dumps(row))


def pytest_terminal_summary(terminalreporter):
    reports = terminalreporter.stats.get("passed", ())
    found = [
        json.loads(value)
        for report in reports
        for name, value in report.user_properties
        if name == "zoo_row" and report.when == "call"
    ]
    page = terminalreporter.config.getoption("--zoo-page")
    if not found or page is None:
        return
    lines = _kept(page) | {(row["zoo"], row["network"]): _line(row) for row in found}
    table = [
        _cells(COLUMNS),
        _cells(("---",) * len(COLUMNS)),
        *(lines[key] for key in sorted(lines)),
    ]
    terminalreporter.write_line("\n".join(table))
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    machine = f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores"
    beside = page.with_suffix(".part")
    beside.write_text("\n".join([HEAD, f"{versions}; {machine}.", "", *table, ""]), "utf-8")
    os.replace(beside, page)


def _kept(page):
    """The lines of an earlier run."""
    if not page.exists():
        return {}
    rows = [line for line in page.read_text("utf-8").splitlines() if line.startswith("| ")][2:]
    return {tuple(cell.strip() for cell in row.strip("|").split("|")[:2]): row for row in rows}


def _line(row):
    shown = {key: f"{value:.1e}" if value else "0" for key, value in row.items()
             if isinstance(value, float)}  # fmt: skip
    return _cells([str({**row, **shown}[column]) for column in COLUMNS])


def _cells(cells):
    return f"| {' | '.join(cells)} |"
