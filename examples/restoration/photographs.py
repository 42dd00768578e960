"""Photographs that scikit-image ships in its package, in shades of grey, and their patches.

Those it would download are not among them, nor are its drawings, masks and test charts.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from examples import packaged

TRAIN = (
    "brick.png", "cell.png", "clock_motion.png", "coffee.png", "grass.png", "gravel.png",
    "ihc.png", "moon.png", "motorcycle_left.png", "motorcycle_right.png", "page.png",
)  # fmt: skip
TEST = ("astronaut.png", "camera.png", "chelsea.png", "coins.png", "rocket.jpg")


class Photographs:
    """The photographs to train on, and those held out.

    Args:
        directory: where the files are; None takes those of the package.

    Attributes:
        train, test: each of shape `(1, height, width)`, from 0 to 1.
        digest: of all the files.

    Raises:
        FileNotFoundError: if a file is not there.
        ValueError: if a file is no picture.
    """

    def __init__(self, directory: Path | None) -> None:
        home = directory or packaged.folder("skimage", "data", "scikit-image")
        files = [packaged.existing(home / name) for name in (*TRAIN, *TEST)]
        read = [grey(file) for file in files]
        self.train, self.test = read[: len(TRAIN)], read[len(TRAIN) :]
        self.digest = packaged.digest(files)


def grey(file: Path) -> Tensor:
    """A picture as `(1, height, width)`, from 0 to 1."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as picture:
            values = np.array(picture.convert("L"), dtype=np.float32)
    except (UnidentifiedImageError, SyntaxError) as error:
        raise ValueError(f"{file} is no picture ({error}): restore it") from None
    return torch.from_numpy(values / 255)[None]


def patches(images: list[Tensor], count: int, side: int, generator: torch.Generator) -> Tensor:
    """Squares of random photographs, turned and mirrored at random: `(count, 1, side, side)`.

    Every photograph is drawn equally often, whatever its size.
    """
    return torch.stack([_patch(images, side, generator) for _ in range(count)])


def _patch(images: list[Tensor], side: int, generator: torch.Generator) -> Tensor:
    def below(bound: int) -> int:
        return int(torch.randint(bound, (), generator=generator))

    image = images[below(len(images))]
    top, left = (below(length - side + 1) for length in image.shape[1:])
    patch = image[:, top : top + side, left : left + side]
    patch = patch.rot90(below(4), (1, 2))
    return patch.flip(2) if below(2) else patch
