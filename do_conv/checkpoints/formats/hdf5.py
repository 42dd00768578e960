"""HDF5 files, which a process of its own reads first.

The HDF5 library may crash on a damaged file, or never return. Of 767 copies of a file with chunked
and compressed arrays, each with a few bytes changed at random, 5 crashed the process and 2 did not
come to an end in 10 seconds (h5py 3.14.0, HDF5 1.14.6); one byte is enough. So another process
reads the whole file, and answers with a copy that the library itself has written; this process
opens the copy alone.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# The largest compression ratio that is believed.
MOST_EXPANSION = 1000
_SMALL = 1 << 20
_SECONDS = 60.0
_BYTES_PER_SECOND = 10_000_000
REFUSED = 3  # exit code of a process that printed a reason instead of a copy


def clean_copy(path: Path) -> bytes:
    """The bytes of a whole copy of an HDF5 file.

    Raises:
        ValueError: if the library cannot read all of the file, or it refers to other files.
    """
    package = str(Path(__file__).parents[3])
    search = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__, str(path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # the exception h5py raises for a damaged file
            env={**os.environ, "PYTHONPATH": search},
            timeout=_SECONDS + path.stat().st_size / _BYTES_PER_SECOND,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ValueError("the HDF5 library does not come to its end") from None
    if done.returncode == REFUSED:
        raise ValueError(done.stdout.decode())
    if done.returncode:
        raise ValueError("the HDF5 library fails on it")
    return done.stdout


def copied(path: str) -> bytes:
    """A copy of a file, of which everything has been read.

    Raises:
        ValueError: if it refers to other files, or holds less than it says.
    """
    import h5py

    with h5py.File(path, "r") as old:
        _check(old, h5py)

        def fill(new: Any) -> None:
            for name in old.attrs:
                stored = old.attrs.get_id(name)
                new.attrs.create(name, old.attrs[name], stored.shape, stored.dtype)
            for name in old:
                old.copy(name, new)

        return made(fill)


def made(fill: Callable[[Any], None]) -> bytes:
    """A file that `fill` fills, made in memory: the library crashes where a disk is full."""
    import h5py

    with h5py.File("memory", "w", driver="core", backing_store=False) as file:
        fill(file)
        file.flush()
        image: bytes = file.id.get_file_image()
    return image


def _check(group: Any, h5py: Any, around: tuple[int, ...] = ()) -> None:
    """Read everything in a group; `around` has the addresses of the groups it stands in."""
    address = h5py.h5o.get_info(group.id).addr
    if address in around:
        raise ValueError("it has a group inside itself")
    for _ in group.attrs.items():
        pass
    for name in group:
        if group.get(name, getclass=True, getlink=True) is not h5py.HardLink:
            raise ValueError("it has links")
        member = group[name]
        if isinstance(member, h5py.Group):
            _check(member, h5py, (*around, address))
        elif isinstance(member, h5py.Dataset):
            if member.external or member.is_virtual:
                raise ValueError("it has arrays in other files")
            size = (member.size or 0) * member.dtype.itemsize
            if size > max(_SMALL, MOST_EXPANSION * member.id.get_storage_size()):
                raise ValueError("an array larger than what is stored of it")
            for _ in member.attrs.items():
                pass
            member[()]
        else:
            raise ValueError("it has more than groups and arrays")


def answer(path: str) -> tuple[int, bytes]:
    """An exit code, and a copy of a file or the reason why the copy failed."""
    try:
        return 0, copied(path)
    except Exception as error:  # a damaged file can raise any exception
        return REFUSED, (str(error) or type(error).__name__).encode()


if __name__ == "__main__":
    code, data = answer(sys.argv[1])
    sys.stdout.buffer.write(data)
    sys.exit(code)
