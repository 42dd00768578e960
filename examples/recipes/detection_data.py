"""COCO's images and annotations, read from its own files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from examples.recipes.recipe import present

SPLITS = {"train": "train2017", "val": "val2017"}


class Coco(Sequence):
    """Images `(3, h, w)` from 0 to 1, and their boxes as torchvision's networks take them.

    Args:
        home: the folder that has `annotations/instances_SPLIT.json` and the folders of images.
        split: "train" or "val".

    Attributes:
        annotations: the file.
        categories: COCO's number of class 1, class 2 and so on.

    Raises:
        FileNotFoundError: if a file is not there.
        ValueError: if the annotations cannot be read, or there is no image.
    """

    def __init__(self, home: Path, split: str) -> None:
        name = SPLITS[split]
        self._folder = present(home / name, f"the images of COCO in {name}")
        self.annotations = present(
            home / "annotations" / f"instances_{name}.json", "the annotations of COCO"
        )
        self._flips = split == "train"
        try:
            found = json.loads(self.annotations.read_text(encoding="utf-8"))
            self.categories = sorted(one["id"] for one in found["categories"])
            boxes = _boxes(found["annotations"])
            # An image without a box teaches nothing.
            images = [one for one in found["images"] if not self._flips or one["id"] in boxes]
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"{self.annotations} cannot be read as COCO's annotations") from error
        if not images:
            raise ValueError(f"{self.annotations} has no image with a box")
        self._images = images
        self._boxes = [boxes.get(one["id"], []) for one in images]

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, place: Any) -> tuple[Tensor, dict[str, Tensor]]:
        record, annotated = self._images[place], self._boxes[place]
        with Image.open(self._folder / record["file_name"]) as opened:
            image = v2.functional.to_image(opened.convert("RGB")).float() / 255
        boxes = torch.tensor([one["bbox"] for one in annotated]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        if self._flips and torch.rand(()) < 0.5:
            image = image.flip(2)
            boxes[:, [0, 2]] = image.shape[2] - boxes[:, [2, 0]]
        labels = [1 + self.categories.index(one["category_id"]) for one in annotated]
        found = {
            "boxes": boxes,
            "labels": torch.tensor(labels, dtype=torch.int64),
            "image_id": torch.tensor(record["id"]),
        }
        return image, found


def _boxes(annotations: list[Any]) -> dict[int, list[Any]]:
    """Those of each image that are of one thing, and have an area."""
    found: dict[int, list[Any]] = {}
    for one in annotations:
        if not one.get("iscrowd") and min(one["bbox"][2:]) > 0:
            found.setdefault(one["image_id"], []).append(one)
    return found


def together(pairs: list[Any]) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """A batch of images of different sizes."""
    images, found = zip(*pairs, strict=True)
    return list(images), list(found)


def listed(
    found: list[dict[str, Tensor]], targets: list[dict[str, Tensor]], categories: list[int]
) -> list[dict[str, Any]]:
    """What a network finds, as COCO's own evaluation reads it."""
    result = []
    for one, target in zip(found, targets, strict=True):
        boxes = one["boxes"].double().cpu()
        boxes[:, 2:] -= boxes[:, :2]
        numbers = zip(boxes.tolist(), one["labels"].tolist(), one["scores"].tolist(), strict=True)
        result += [
            {"image_id": int(target["image_id"]), "category_id": categories[label - 1],
             "bbox": box, "score": score}
            for box, label, score in numbers
        ]  # fmt: skip
    return result
