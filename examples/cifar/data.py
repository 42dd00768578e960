"""CIFAR-10 and CIFAR-100 from their official binary files, and the usual augmentation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

CLASSES = {"cifar10": 10, "cifar100": 100}
FOLDERS = {"cifar10": "cifar-10-batches-bin", "cifar100": "cifar-100-binary"}
# The files of training and of test images, and how many records each has.
TRAIN = {
    "cifar10": {f"data_batch_{i}.bin": 10_000 for i in range(1, 6)},
    "cifar100": {"train.bin": 50_000},
}
TEST = {"cifar10": {"test_batch.bin": 10_000}, "cifar100": {"test.bin": 10_000}}
# A record is its labels, the last of which is the class, and the planes of red, green and blue.
LABELS = {"cifar10": 1, "cifar100": 2}
PIXELS = 3 * 32 * 32
BORDER = 4  # pixels that a crop may move, as in He et al.


class Images:
    """Images `(n, 3, 32, 32)` as bytes, labels, and the channels' mean and deviation."""

    def __init__(self, images: Tensor, labels: Tensor, mean: Tensor, deviation: Tensor) -> None:
        self.images, self.labels = images, labels
        self.mean, self.deviation = mean, deviation

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self.images.device

    def to(self, device: torch.device) -> Images:
        """The same on a device."""
        kept = (self.images, self.labels, self.mean, self.deviation)
        return Images(*(tensor.to(device) for tensor in kept))

    def normalised(self, images: Tensor) -> Tensor:
        """Bytes as numbers of mean 0 and deviation 1 over the training images."""
        return (images.float() - self.mean) / self.deviation

    def shuffled(self, size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches in random order, each image cropped from its padded self and perhaps flipped."""
        # Drawn on the CPU, so that every device sees the same batches.
        order = torch.randperm(len(self), generator=generator)
        for start in range(0, len(order), size):
            chosen = order[start : start + size].to(self.device)
            yield (
                self.normalised(augmented(self.images[chosen], generator)),
                self.labels[chosen],
            )

    def in_order(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches as they are."""
        for start in range(0, len(self), size):
            chosen = slice(start, start + size)
            yield self.normalised(self.images[chosen]), self.labels[chosen]


def augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """A random crop of each padded image, flipped or not."""
    count, side, device = len(images), images.shape[-1], images.device
    padded = torch.nn.functional.pad(images, (BORDER,) * 4)
    top, left = torch.randint(0, 2 * BORDER + 1, (2, count), generator=generator)
    flip = torch.rand(count, generator=generator) < 0.5
    steps = torch.arange(side)
    columns = torch.where(flip[:, None], steps.flip(0), steps) + left[:, None]
    rows = steps + top[:, None]
    which = torch.arange(count)[:, None, None]
    where = (one.to(device) for one in (which, rows[:, :, None], columns[:, None, :]))
    image, row, column = where
    # Indexing puts the indexed axes first: (n, rows, columns, 3).
    return padded[image, :, row, column].permute(0, 3, 1, 2)


def load(name: str, directory: str | Path) -> tuple[Images, Images]:
    """The training and the test images of a data set.

    Args:
        name: "cifar10" or "cifar100".
        directory: where its official folder of binary files is.

    Raises:
        FileNotFoundError: if a file is not there.
        ValueError: if a file has another size.
    """
    home, labels = Path(directory) / FOLDERS[name], LABELS[name]
    parts = []
    for files in (TRAIN[name], TEST[name]):
        read = [_read(home / file, records, labels) for file, records in files.items()]
        parts.append([torch.from_numpy(np.concatenate(one)) for one in zip(*read, strict=True)])
    pixels = parts[0][0].double()
    mean = pixels.mean((0, 2, 3)).float().reshape(3, 1, 1)
    deviation = pixels.std((0, 2, 3)).float().reshape(3, 1, 1)
    train, test = (Images(*one, mean, deviation) for one in parts)
    return train, test


def _read(file: Path, records: int, labels: int) -> tuple[np.ndarray, np.ndarray]:
    """The images and the (fine) labels of a file."""
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} is not there: give --data the folder that holds {file.parent.name}, the "
            "binary version of the data set"
        )
    expected, found = records * (labels + PIXELS), file.stat().st_size
    if found != expected:
        raise ValueError(f"{file} has {found:,} bytes, not {expected:,}: fetch it again")
    read = np.fromfile(file, np.uint8).reshape(records, labels + PIXELS)
    return read[:, labels:].reshape(-1, 3, 32, 32), read[:, labels - 1].astype(np.int64)
