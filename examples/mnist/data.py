"""MNIST: from the four published files, or through a framework's own loader."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# The published files and their MD5, for the images and the classes of each part.
FILES = {
    "train": (
        ("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
        ("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432"),
    ),
    "test": (
        ("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3"),
        ("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c"),
    ),
}
SIDE = 28
HEADS = (16, 8)  # bytes before the images, and before the classes


@dataclass(frozen=True)
class Images:
    """Images `(n, 28, 28)` as bytes, and their classes `(n,)`."""

    images: np.ndarray
    classes: np.ndarray

    def __len__(self) -> int:
        return len(self.classes)

    def part(self, start: int, stop: int) -> Images:
        """Those from `start` to before `stop`."""
        return Images(self.images[start:stop], self.classes[start:stop])


# What a framework's own loader returns: the training images, and the test images.
Loader = Callable[[], tuple[Images, Images]]


def load(directory: Path | None, own: Loader) -> tuple[Images, Images]:
    """The 60,000 training images and the 10,000 test images.

    Args:
        directory: where the published files are; None asks the framework's own loader.
        own: that loader.

    Raises:
        FileNotFoundError: if a file is not there.
        ValueError: if a file is not the published one.
        ConnectionError: if the loader cannot bring them.
    """
    if directory is None:
        try:
            return own()
        except Exception as error:
            raise ConnectionError(
                f"MNIST could not be downloaded ({error}): give --data the folder that has its "
                "four files, such as train-images-idx3-ubyte.gz"
            ) from error
    return _part(directory, "train"), _part(directory, "test")


def _part(directory: Path, name: str) -> Images:
    read = [_bytes(directory / file, md5) for file, md5 in FILES[name]]
    images, classes = (data[head:] for data, head in zip(read, HEADS, strict=True))
    return Images(images.reshape(-1, SIDE, SIDE), classes)


def _bytes(file: Path, md5: str) -> np.ndarray:
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not there: give --data the folder that has it")
    packed = file.read_bytes()
    found = hashlib.md5(packed, usedforsecurity=False).hexdigest()
    if found != md5:
        raise ValueError(
            f"{file} has {len(packed):,} bytes of MD5 {found}, not {md5}: fetch it again"
        )
    return np.frombuffer(gzip.decompress(packed), np.uint8)
