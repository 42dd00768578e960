"""Pack CIFAR-100 without loss into two files of some 50 MB, and unpack them.

    python -m examples.cifar.parts pack --data DIR --out PARTS
    python -m examples.cifar.parts unpack PARTS/cifar-100-1.xz PARTS/cifar-100-2.xz --data DIR

The parts can be unpacked one at a time, in any order, for a machine that takes only small files.
The first one leaves files that end in `.half`; the other one fills them, and they become the
official files. A colour is kept as its difference
from the green, and each pixel as its difference from what its neighbours predict (the median edge
detector of JPEG-LS), which xz makes smaller than the pixels.
"""

from __future__ import annotations

import argparse
import lzma
import sys
from pathlib import Path

import numpy as np

from do_conv.files import replacing
from examples.cifar import data

RECORD = data.LABELS["cifar100"] + data.PIXELS
# Contexts of bytes before and of positions do not help: the differences are nearly noise.
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6, "lc": 0, "lp": 0, "pb": 0}]


def main(arguments: list[str] | None = None) -> int:
    """Pack or unpack; what cannot be done is one sentence."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    pack = commands.add_parser("pack", help="write two parts")
    unpack = commands.add_parser("unpack", help="write the records of parts")
    for one in (pack, unpack):
        one.add_argument(
            "--data", type=Path, required=True, help="the folder that holds cifar-100-binary"
        )
    pack.add_argument("--out", type=Path, required=True, help="where the parts go")
    unpack.add_argument("parts", nargs="+", type=Path)
    given = parser.parse_args(arguments)
    try:
        if given.command == "pack":
            write_parts(given.data, given.out)
        else:
            for part in given.parts:
                read_part(part, given.data)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _files(directory: Path) -> list[tuple[Path, int]]:
    """The official files, and the records of each."""
    home = directory / data.FOLDERS["cifar100"]
    files = {**data.TRAIN["cifar100"], **data.TEST["cifar100"]}
    return [(home / name, records) for name, records in files.items()]


def write_parts(directory: Path, out: Path) -> None:
    """Write the odd and the even records of each file as a part each."""
    data.load("cifar100", directory)  # refuses files of another size
    out.mkdir(parents=True, exist_ok=True)
    for which in (0, 1):
        packed = [
            _packed(np.fromfile(file, np.uint8).reshape(-1, RECORD)[which::2])
            for file, _ in _files(directory)
        ]
        content = bytes([which]) + b"".join(packed)
        part = out / f"cifar-100-{which + 1}.xz"
        part.write_bytes(lzma.compress(content, filters=FILTERS))
        print(f"{part}: {part.stat().st_size:,} bytes")


def read_part(part: Path, directory: Path) -> None:
    """Write a part's records to their places in the official files, or in halves of them.

    Raises:
        ValueError: if the part is damaged.
    """
    try:
        content = lzma.decompress(part.read_bytes())
    except (lzma.LZMAError, EOFError):
        content = b""
    files = _files(directory)
    which = content[0] if content else 0
    counts = [len(range(which, records, 2)) for _, records in files]
    if not content or len(content) != 1 + RECORD * sum(counts):
        raise ValueError(f"{part} is damaged, or no part of CIFAR-100: copy it again")
    start = 1
    for (file, records), count in zip(files, counts, strict=True):
        file.parent.mkdir(parents=True, exist_ok=True)
        own, other = (file.with_name(f"{file.name}.{one + 1}.half") for one in (which, 1 - which))
        # No file has an official name that has not all of its records.
        rows = _unpacked(content[start : start + count * RECORD])
        is_second = other.exists()
        if is_second:
            halves = [rows, np.fromfile(other, np.uint8).reshape(-1, RECORD)]
            rows = np.empty((records, RECORD), np.uint8)
            rows[which::2], rows[1 - which :: 2] = halves
        with replacing(file if is_second else own) as beside:
            rows.tofile(beside)
        other.unlink(missing_ok=True)
        start += count * RECORD


def _packed(records: np.ndarray) -> bytes:
    """The labels, then the differences of all pixels, colour by colour."""
    labels = data.LABELS["cifar100"]
    colours = records[:, labels:].reshape(-1, 3, 32, 32).copy()
    colours[:, ::2] -= colours[:, 1:2]
    left, above, corner = (np.zeros_like(colours) for _ in range(3))
    left[..., 1:] = colours[..., :-1]
    above[..., 1:, :] = colours[..., :-1, :]
    corner[..., 1:, 1:] = colours[..., :-1, :-1]
    differences = colours - _predicted(left, above, corner)
    return records[:, :labels].tobytes() + differences.swapaxes(0, 1).tobytes()


def _unpacked(content: bytes) -> np.ndarray:
    """The records of `_packed`."""
    labels = data.LABELS["cifar100"]
    count = len(content) // RECORD
    flat = np.frombuffer(content, np.uint8)
    differences = flat[labels * count :].reshape(3, count, 32, 32)
    # A border of zeros, and the images last, so that a pixel of all of them is one piece.
    colours = np.zeros((33, 33, 3, count), np.uint8)
    for row, column in np.ndindex(32, 32):
        near = colours[row : row + 2, column : column + 2]
        predicted = _predicted(near[1, 0], near[0, 1], near[0, 0])
        near[1, 1] = differences[:, :, row, column] + predicted
    images = colours[1:, 1:].transpose(3, 2, 0, 1).copy()
    images[:, ::2] += images[:, 1:2]
    return np.hstack([flat[: labels * count].reshape(count, labels), images.reshape(count, -1)])


def _predicted(left: np.ndarray, above: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """The median of left, above, and left + above - corner."""
    plane = left.astype(np.int16) + above - corner
    low, high = np.minimum(left, above), np.maximum(left, above)
    return np.asarray(np.clip(plane, low, high).astype(np.uint8))


if __name__ == "__main__":
    sys.exit(main())
