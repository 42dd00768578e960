"""Which values of a kernel are compared, to notice that somebody else has written it."""

from __future__ import annotations

import numpy as np

SAMPLE = 256
_GOLDEN = (5**0.5 - 1) / 2


def places(numbers: int) -> np.ndarray:
    """Where the values of a sample are in an array of `numbers`: all of them if there are few.

    One is taken of each of as many pieces of equal size, so that all rows have some; where in its
    piece moves on by the golden ratio, so that the sample meets channels and positions evenly.
    """
    count = min(numbers, SAMPLE)
    pieces = np.arange(count + 1) * numbers // max(count, 1)
    shares = np.arange(count) * _GOLDEN % 1
    return np.asarray(pieces[:-1] + (shares * np.diff(pieces)).astype(int))
