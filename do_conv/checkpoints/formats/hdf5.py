"""A copy of an HDF5 file, made in a process of its own.

The HDF5 library may crash on a damaged file, or never return. Then only this process does: what is
opened elsewhere is a copy that the library has written whole. `copies` asks for them.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

# A dataset may be stored compressed, but not so many times smaller than it is.
_MOST_EXPANSION = 1000
_SMALL = 1 << 20
SECONDS = 60.0
_BYTES_PER_SECOND = 10_000_000


def copies(pairs: Iterable[tuple[Path, Path]]) -> Iterator[str | None]:
    """Copy HDF5 files, each pair's first to its second.

    Yields:
        for each pair None if it was copied, or why it was not.
    """
    child: subprocess.Popen[bytes] | None = None
    try:
        for source, target in pairs:
            if child is None:
                child = _started()
            answer = _asked(child, source, target)
            yield answer[0]
            if not answer[1]:
                _ended(child)
                child = None
    finally:
        if child is not None:
            _ended(child)


def _started() -> subprocess.Popen[bytes]:
    # The library's own report of a damaged file is not for the person: the answer says it.
    command = [sys.executable, "-m", "do_conv.checkpoints.formats.hdf5"]
    path = os.pathsep.join(
        filter(None, [str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH")])
    )
    child = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert child.stdout is not None
    child.stdout.readline()  # it has begun: the time limit is for the file alone
    return child


def _ended(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.communicate()


def _asked(child: subprocess.Popen[bytes], source: Path, target: Path) -> tuple[str | None, bool]:
    """What the process answers, and whether it goes on living."""
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(json.dumps([str(source), str(target)]).encode() + b"\n")
    child.stdin.flush()
    limit = SECONDS + source.stat().st_size / _BYTES_PER_SECOND
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        if not selector.select(limit):
            return "the HDF5 library does not come to its end", False
    line = child.stdout.readline()
    if not line:
        return "the HDF5 library fails on it", False
    return json.loads(line), True


def copy(source: str, target: str) -> None:
    """Copy a file, having read everything in it.

    Raises:
        ValueError: if it refers to other files, or holds less than it says.
    """
    import h5py

    with h5py.File(source, "r") as old:
        _check(old, h5py)

        def fill(new: Any) -> None:
            _copy_attributes(old, new)
            for name in old:
                old.copy(name, new)

        write(Path(target), fill)


def write(path: Path, fill: Callable[[Any], None]) -> None:
    """Write a file that `fill` fills, in memory first: the library crashes where a disk is full."""
    import h5py

    with h5py.File(path.name, "w", driver="core", backing_store=False) as file:
        fill(file)
        file.flush()
        image = file.id.get_file_image()
    path.write_bytes(image)


def _check(group: Any, h5py: Any) -> None:
    """Read what is in a group."""
    for _ in group.attrs.items():
        pass
    for name in group:
        kind = group.get(name, getclass=True, getlink=True)
        if kind is not h5py.HardLink:
            raise ValueError("it has links")
        found = group[name]
        if isinstance(found, h5py.Group):
            _check(found, h5py)
        elif isinstance(found, h5py.Dataset):
            if found.external or found.is_virtual:
                raise ValueError("it has arrays in other files")
            size = (found.size or 0) * found.dtype.itemsize
            stored = found.id.get_storage_size()
            if size > max(_SMALL, _MOST_EXPANSION * stored):
                raise ValueError("an array larger than what is stored of it")
            for _ in found.attrs.items():
                pass
            found[()]
        else:
            raise ValueError("it has more than groups and arrays")


def _copy_attributes(old: Any, new: Any) -> None:
    for name in old.attrs:
        kept = old.attrs.get_id(name)
        new.attrs.create(name, old.attrs[name], kept.shape, kept.dtype)


def main() -> None:
    """Answer each pair of paths on a line of the standard input with a line."""
    import h5py  # noqa: F401 - before it says that it has begun

    print(flush=True)
    for line in sys.stdin:
        try:
            copy(*json.loads(line))
            answer = None
        except Exception as error:  # a damaged file makes the library raise anything
            answer = str(error) or type(error).__name__
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
