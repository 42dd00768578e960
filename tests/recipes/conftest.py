"""Tiny data sets in the layouts of the real ones."""

import json

import numpy as np
import pytest
from PIL import Image


def drawn(seed, height, width):
    """An image of noise."""
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 255, (height, width, 3), np.uint8))


@pytest.fixture
def image_folder(tmp_path):
    """ImageNet's layout: three classes of one brightness each."""
    home = tmp_path / "imagenet"
    for split, count in (("train", 4), ("val", 3)):
        for kind in range(3):
            folder = home / split / f"n{kind}"
            folder.mkdir(parents=True)
            for i in range(count):
                image = np.asarray(drawn(10 * kind + i, 40, 48)) // 3 + 80 * kind
                Image.fromarray(image.astype(np.uint8)).save(folder / f"{i}.png")
    return home


def pair(image_file, mask_file, seed, numbers):
    """An image of noise, and a mask of stripes of these numbers with a border of 255."""
    for file in (image_file, mask_file):
        file.parent.mkdir(parents=True, exist_ok=True)
    drawn(seed, 36, 48).save(image_file)
    mask = np.repeat(np.resize(numbers, 12), 4)[None].repeat(36, 0).astype(np.uint8)
    mask[:2] = 255
    Image.fromarray(mask).save(mask_file)


@pytest.fixture
def masks(tmp_path):
    """A function that makes one of the layouts of `segmentation_data`."""

    def make(layout):
        home = tmp_path / layout
        for split in ("train", "val"):
            for i in range(4 if split == "train" else 3):
                stem = f"{split}{i}"
                if layout == "cityscapes":
                    image = home / "leftImg8bit" / split / "ulm" / f"{stem}_leftImg8bit.png"
                    mask = home / "gtFine" / split / "ulm" / f"{stem}_gtFine_labelIds.png"
                elif layout == "folders":
                    image = home / "images" / split / f"{stem}.png"
                    mask = home / "masks" / split / f"{stem}.png"
                else:
                    voc = home / "VOCdevkit" / "VOC2012"
                    kind = "SegmentationClass" + ("Aug" if layout == "voc-aug" else "")
                    image, mask = voc / "JPEGImages" / f"{stem}.jpg", voc / kind / f"{stem}.png"
                    listed = "trainaug" if (split, layout) == ("train", "voc-aug") else split
                    lists = voc / "ImageSets" / "Segmentation"
                    lists.mkdir(parents=True, exist_ok=True)
                    with (lists / f"{listed}.txt").open("a") as names:
                        names.write(f"{stem}\n")
                # Cityscapes: road, car, and a number that is not trained; others: 0 to 2.
                pair(image, mask, i, [7, 26, 4] if layout == "cityscapes" else [0, 1, 2])
        return home

    return make


@pytest.fixture
def coco(tmp_path):
    """COCO's layout, with two categories; one image has no box, one box is of a crowd."""
    home = tmp_path / "coco"
    for split, count in (("train2017", 3), ("val2017", 2)):
        (home / split).mkdir(parents=True)
        images, boxes = [], []
        for i in range(count):
            name = f"{i:012}.jpg"
            drawn(i, 64, 80).save(home / split / name)
            images.append({"id": 100 + i, "file_name": name, "height": 64, "width": 80})
        for i in range(1, count):
            box = [5.0 * i, 6.0, 30.0, 40.0]
            common = {"image_id": 100 + i, "bbox": box, "area": 1200.0}
            boxes.append({"id": 2 * i, "category_id": 7, "iscrowd": 0, **common})
            boxes.append({"id": 2 * i + 1, "category_id": 3, "iscrowd": 1, **common})
        categories = [{"id": 7, "name": "seven"}, {"id": 3, "name": "three"}]
        found = {"images": images, "annotations": boxes, "categories": categories}
        (home / "annotations").mkdir(exist_ok=True)
        (home / "annotations" / f"instances_{split}.json").write_text(json.dumps(found))
    return home
