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
import zoo_page

from do_conv.files import replacing

PACKAGES = (
    "torch", "timm", "torchvision", "keras", "tensorflow-cpu", "mxnet", "gluoncv", "numpy",
    "segmentation-models-pytorch", "monai", "facenet-pytorch", "mtcnn", "silero-vad", "torchcrepe",
    "keras-hub",
)  # fmt: skip


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
    """Keep a line of the table: a dict with the keys of `zoo_page.COLUMNS`."""
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
    lines = zoo_page.kept(page) | {
        (row["zoo"], row["network"]): zoo_page.line(row) for row in found
    }
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    machine = f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores"
    text = zoo_page.page(lines, f"{versions}; {machine}.")
    terminalreporter.write_line(text)
    with replacing(page) as beside:
        beside.write_text(text, "utf-8")
