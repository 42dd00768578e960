"""The frameworks' own tests: the first case of each by default, all of them with `--frameworks`."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent


def pytest_addoption(parser):
    parser.addoption(
        "--frameworks", action="store_true", help="all cases of the frameworks' own tests"
    )


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "requires_trainable_backend: Keras's own mark, on tests that train"
    )


def pytest_collection_modifyitems(config, items):
    if config.getoption("--frameworks"):
        return
    first, more = {}, []
    for item in items:
        if item.path.parent == HERE and first.setdefault(_test_of(item), item) is not item:
            more.append(item)
    config.hook.pytest_deselected(items=more)
    items[:] = [item for item in items if item not in more]


def _test_of(item):
    """The test of a case: without the number that absl puts after it, and what pytest puts there.

    PyTorch's layers, and what is made of ours, count as tests of their own.
    """
    name, _, case = item.nodeid.partition("[")
    kinds = re.findall(r"\b(?:Lazy)?Conv(?:Transpose)?\dd\b|zero|drawn|features", case)
    return re.sub(r"\d+$", "", name), *kinds
