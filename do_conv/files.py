"""Files are written beside their place and moved there: nothing half-written is left behind."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from do_conv.core.errors import DOConvError, broken


def output_directory(path: str | Path) -> Path:
    """`path` as a directory that can be written to, made if it is not there.

    Raises:
        DOConvError: if it cannot be made or written to.
    """
    directory = Path(path)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            return directory
    except OSError as error:
        raise unwritable(directory, error) from None


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A path beside `path` to write to; it takes the place of `path` once it is whole.

    It has the endings of `path`, such as `.weights.h5`, by which a framework may choose a format.

    Raises:
        DOConvError: if the file cannot be written.
    """
    path = Path(path)
    try:
        handle, name = tempfile.mkstemp(
            prefix=f".{path.name}.", suffix="".join(path.suffixes), dir=path.parent
        )
        os.close(handle)
        try:
            yield Path(name)
            os.chmod(name, 0o666 & ~_umask())
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise unwritable(path, error) from None


def _umask() -> int:
    """The mask of a file made in the ordinary way; a temporary one is for its owner only."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def unwritable(path: Path, error: OSError) -> DOConvError:
    """The error for a file or folder that cannot be written."""
    return broken(
        "an output path must be writable",
        f"{path} ({error.strerror or error})",
        "name a folder that you may write to and that has space",
    )
