"""Images and masks: the official folders of Cityscapes and PASCAL VOC, or plain folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from examples.recipes.recipe import DEVIATION, MEAN, present

IGNORED = 255
# Cityscapes: of the numbers in its masks, those that are trained, in this order.
CITYSCAPES = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
Pairs = list[tuple[Path, Path]]


class Masked(Sequence):
    """Images `(3, h, w)` and masks `(h, w)` of class numbers, of which 255 is ignored.

    Args:
        pairs: of an image's and a mask's file.
        classes: numbers above them are ignored.
        numbers: what the masks' files hold for class 0, 1 and so on; None is 0, 1 and so on.
        transform: of the image and the mask together.
    """

    def __init__(
        self, pairs: Pairs, classes: int, numbers: Sequence[int] | None, transform: Any
    ) -> None:
        self._pairs, self._transform = pairs, transform
        self._class_of = torch.full((256,), IGNORED, dtype=torch.uint8)
        for i, number in enumerate(numbers or range(classes)):
            self._class_of[number] = i

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, place: Any) -> tuple[Tensor, Tensor]:
        image_file, mask_file = self._pairs[place]
        with Image.open(image_file) as image, Image.open(mask_file) as mask:
            if image.size != mask.size:
                raise ValueError(f"{mask_file} is of another size than {image_file}")
            numbers = torch.from_numpy(np.array(mask))
            if numbers.ndim != 2:
                raise ValueError(f"{mask_file} has colours: a mask has one number for a pixel")
            seen = v2.functional.to_image(image.convert("RGB"))
        found = self._class_of[numbers.long().clamp(0, 255)]
        image, mask = self._transform(tv_tensors.Image(seen), tv_tensors.Mask(found))
        return image.as_subclass(Tensor), mask.as_subclass(Tensor).long()


def transforms(crop: int, shorter: int) -> tuple[Any, Any]:
    """For training: an image half to twice as large, of which a square is cut; and for tests."""
    numbers = [v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True)]
    numbers += [v2.Normalize(MEAN, DEVIATION)]
    fill = {tv_tensors.Image: 0, tv_tensors.Mask: IGNORED}
    train = [
        v2.RandomResize(shorter // 2, 2 * shorter),
        v2.RandomCrop(crop, pad_if_needed=True, fill=fill),
        v2.RandomHorizontalFlip(),
    ]
    return v2.Compose([*train, *numbers]), v2.Compose(numbers)


def pairs(layout: str, home: Path, split: str) -> Pairs:
    """The files of a split, "train" or "val", in order.

    Raises:
        FileNotFoundError: if a folder or file is not there.
        ValueError: if there is no image.
    """
    found = _LAYOUTS[layout](home, split)
    if not found:
        raise ValueError(f"{home} has no images of {split} in the folders of {layout}")
    for image, mask in found:
        present(image, "this image, which its list names")
        present(mask, f"this mask, of the image {image.name}")
    return found


def _cityscapes(home: Path, split: str) -> Pairs:
    images = present(home / "leftImg8bit" / split, "leftImg8bit and gtFine of Cityscapes")
    masks = present(home / "gtFine" / split, "leftImg8bit and gtFine of Cityscapes")
    ending = "_leftImg8bit.png"
    return [
        (file, masks / file.parent.name / file.name.replace(ending, "_gtFine_labelIds.png"))
        for file in sorted(images.glob(f"*/*{ending}"))
    ]


def _voc(home: Path, split: str, masks: str = "SegmentationClass", names: str = "") -> Pairs:
    home = present(home / "VOCdevkit" / "VOC2012", "VOCdevkit/VOC2012 of PASCAL VOC")
    lists = home / "ImageSets" / "Segmentation"
    listed = present(lists / f"{names or split}.txt", "this list of PASCAL VOC 2012")
    stems = listed.read_text(encoding="utf-8").split()
    return [(home / "JPEGImages" / f"{one}.jpg", home / masks / f"{one}.png") for one in stems]


def _voc_augmented(home: Path, split: str) -> Pairs:
    """10,582 images to train on, with the masks of Hariharan et al. beside the official ones."""
    return _voc(home, split, "SegmentationClassAug", "trainaug" if split == "train" else "val")


def _folders(home: Path, split: str) -> Pairs:
    images = present(home / "images" / split, f"images/{split} and masks/{split}")
    masks = present(home / "masks" / split, f"images/{split} and masks/{split}")
    return [(file, masks / f"{file.stem}.png") for file in sorted(images.iterdir())]


_LAYOUTS = {
    "cityscapes": _cityscapes, "voc-aug": _voc_augmented, "voc": _voc, "folders": _folders,
}  # fmt: skip
LAYOUTS = tuple(_LAYOUTS)
