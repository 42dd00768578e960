"""Real scanned digits: 1,797 images of 8 x 8 that scikit-learn carries, no download."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

BATCH = 32


@dataclass(frozen=True)
class Digits:
    """Images `(n, 1, 8, 8)` in [-1, 1], float32, and their classes, split once for all."""

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray


def load() -> Digits:
    """Three quarters to train on, one quarter to test on, every digit in proportion."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = (digits.images[:, None] / 8 - 1).astype("float32")
    classes = digits.target.astype("int32")
    train_x, test_x, train_y, test_y = train_test_split(
        images, classes, test_size=0.25, random_state=0, stratify=classes
    )
    return Digits(train_x, train_y, test_x, test_y)


def batches(digits: Digits, seed: int, epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The whole batches of one epoch, in an order that both arms and every framework share."""
    order = np.random.default_rng((seed, epoch)).permutation(len(digits.train_x))
    for first in range(0, len(order) - BATCH + 1, BATCH):
        chosen = order[first : first + BATCH]
        yield digits.train_x[chosen], digits.train_y[chosen]
