"""The zoos: a few networks of each by default, all of them with `--zoo`, and a table of the result.

A test gives its line of the table to `zoo_row`. `--zoo-table FILE` writes the table as Markdown.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

COLUMNS = ("zoo", "network", "converted", "left", "after converting", "after training and folding")


def pytest_addoption(parser):
    parser.addoption("--zoo", action="store_true", help="all networks, not the quick ones alone")
    parser.addoption("--zoo-table", type=Path, help="write the table of all networks to this file")


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
    reports = [r for kind in ("passed", "failed") for r in terminalreporter.stats.get(kind, ())]
    rows = [
        json.loads(value)
        for report in reports
        for name, value in report.user_properties
        if name == "zoo_row" and report.when == "call"
    ]
    file = terminalreporter.config.getoption("--zoo-table")
    if not rows or not (file or terminalreporter.config.getoption("--zoo")):
        return
    rows.sort(key=lambda row: (row["zoo"], row["network"]))
    lines = [COLUMNS, ("---",) * len(COLUMNS), *([str(row[c]) for c in COLUMNS] for row in rows)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    terminalreporter.write_line(table)
    if file:
        beside = file.with_suffix(".part")
        beside.write_text(table + "\n", encoding="utf-8")
        os.replace(beside, file)
