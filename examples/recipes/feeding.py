"""Images in batches: what is drawn for one depends on the seed, the epoch and the image alone.

So both arms see the same images, a run that is taken up sees those it would have seen, and several
processes see together what one would.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from examples.recipes import distributed
from examples.states import epoch_seed

MANY = 1_000_003  # a prime: seeds of different images rarely meet


class Drawn(Dataset):
    """A data set whose images are asked for by a seed and a place."""

    def __init__(self, images: Sequence[Any]) -> None:
        self._images = images

    def __getitem__(self, which: tuple[int, int]) -> Any:
        seed, place = which
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed * MANY + place)
            return self._images[place]


class Shuffled:
    """The batches of an epoch for this process: its share of each batch of all processes.

    Attributes:
        epoch: the one that comes next.
    """

    def __init__(self, images: int, batch: int, seed: int) -> None:
        self._images, self._batch, self._seed = images, batch, seed
        self.epoch = 1

    def __len__(self) -> int:
        return self._images // self._batch

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        seed = epoch_seed(self._seed, self.epoch)
        order = torch.randperm(self._images, generator=torch.Generator().manual_seed(seed))
        for start in range(0, len(self) * self._batch, self._batch):
            share = order[start : start + self._batch][distributed.rank() :: distributed.world()]
            yield [(seed, place) for place in share.tolist()]


class InOrder:
    """The share that this process has of the images, in order."""

    def __init__(self, images: int, batch: int) -> None:
        self._places, self._batch = range(distributed.rank(), images, distributed.world()), batch

    def __len__(self) -> int:
        return math.ceil(len(self._places) / self._batch)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for start in range(0, len(self._places), self._batch):
            yield [(0, place) for place in self._places[start : start + self._batch]]


def loader(
    images: Sequence[Any], batches: Any, workers: int, collate: Callable[[list[Any]], Any] | None
) -> DataLoader:
    """Batches read by `workers` processes; 0 reads them in this one."""
    return DataLoader(
        Drawn(images),
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
    )


def check(images: int, batch: int) -> None:
    """Refuse a batch that the processes cannot share, or that there are too few images for.

    Raises:
        ValueError: if so.
    """
    if batch % distributed.world():
        raise ValueError(
            f"--batch {batch} is for all processes together, and {distributed.world()} cannot "
            "share it evenly: give a multiple"
        )
    if images < batch:
        raise ValueError(f"there are {images} images to train on, fewer than --batch {batch}")
