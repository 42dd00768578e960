"""The segmentation recipe, on a few images in each of its layouts."""

import json

import tiny_recipes  # isort: skip  # before torchvision
import numpy as np
import pytest
import torch
from PIL import Image

from examples.recipes import classification, segmentation, segmentation_data, stages, training
from examples.recipes.networks import imagenet

CLASSES = {"cityscapes": 19, "voc": 21, "voc-aug": 21, "folders": 3}


@pytest.fixture
def run(masks, tmp_path):
    homes = {}

    def call(layout, *options, code=0, out="results", network="tiny_deeplab"):
        if layout not in homes:
            homes[layout] = masks(layout)
        common = ["--data", str(homes[layout]), "--layout", layout, "--network", network]
        common += ["--epochs", "2", "--batch", "2", "--crop", "32", "--shorter", "32"]
        common += ["--classes", "3"] if layout == "folders" else []
        common += ["--workers", "0", "--device", "cpu", "--out", str(tmp_path / out)]
        assert training.main(segmentation.Segmentation(), [*common, *options]) == code
        return tmp_path / out

    return call


def lines(folder, layout, arm="do-conv", before=""):
    (file,) = folder.glob(f"{layout}-tiny_deeplab{before}-{arm}-seed0.jsonl")
    return [
        {k: v for k, v in json.loads(line).items() if k != "seconds"}
        for line in file.read_text().splitlines()
    ]


@pytest.mark.parametrize("layout", segmentation_data.LAYOUTS)
def test_each_layout_is_trained_and_evaluated(run, layout):
    folder = run(layout)
    first, last = lines(folder, layout)
    assert (first["epoch"], last["epoch"]) == (1, 2)
    assert 0 <= last["accuracy"] <= last["pixel_accuracy"] <= 100
    weights = torch.load(
        folder / f"{layout}-tiny_deeplab-do-conv-seed0.plain.pt", weights_only=True
    )
    network = tiny_recipes.TinyDeepLab(CLASSES[layout])
    network.load_state_dict(weights)


def test_a_run_that_was_interrupted_ends_as_one_that_was_not(run):
    whole = lines(run("folders", out="at once"), "folders")
    tiny_recipes.interrupted(lambda: run("folders"))
    assert lines(run("folders"), "folders") == whole


def test_the_stages_of_table_4(run, image_folder, tmp_path):
    """Each arm of the classification, then each arm of the segmentation."""
    common = ["--data", str(image_folder), "--network", "tiny", "--classes", "3", "--size", "32"]
    common += ["--epochs", "1", "--batch", "4", "--workers", "0", "--device", "cpu"]
    found = {}
    for before in ("plain", "do-conv"):
        out = tmp_path / "before"
        given = [*common, "--arm", before, "--out", str(out), "--rate", "0.1"]
        assert training.main(classification.Classification(), given) == 0
        file = out / f"imagenet-tiny-{before}-seed0.plain.pt"
        for arm in ("plain", "do-conv"):
            options = ["--pretrained", str(file), "--pretrained-arm", before, "--arm", arm]
            folder = run("folders", *options, "--rate", "0.05")
            found[before, arm] = lines(folder, "folders", arm, f"-from-{before}")[-1]["loss"]
    assert len(set(found.values())) == 4


def test_the_weights_of_imagenet_fit_torchvisions_network():
    before = imagenet.NETWORKS["resnet_v1b_50"](7)
    model = segmentation.NETWORKS["deeplabv3_resnet_50"](4)
    stages.take(model.backbone, before.state_dict(), "before.pt")
    ours = model.backbone.state_dict()
    assert all(torch.equal(ours[k], v) for k, v in before.state_dict().items() if k in ours)
    with pytest.raises(ValueError, match="is of another network"):
        stages.take(model.backbone, imagenet.NETWORKS["resnet_v1b_18"](7).state_dict(), "x.pt")


def test_one_step_of_torchvisions_network(run, capsys):
    folder = run("folders", "--epochs", "1", "--batch", "4", network="deeplabv3_resnet_50")
    (file,) = folder.glob("folders-deeplabv3_resnet_50-do-conv-seed0.plain.pt")
    network = segmentation.NETWORKS["deeplabv3_resnet_50"](3)
    network.load_state_dict(torch.load(file, weights_only=True))


def test_the_heads_learn_faster():
    recipe = segmentation.Segmentation()
    assert recipe.rate_of(None, "backbone.conv1.weight") == 1
    assert recipe.rate_of(None, "classifier.weight") == 10


def test_the_metric():
    masks = torch.tensor([[0, 0, 1, 255]])
    found = torch.tensor([[0, 1, 1, 2]])
    counts = segmentation.confusion(masks, found, 4)
    assert counts.sum() == 3
    assert counts[0].tolist() == [1, 1, 0, 0]
    # Class 0: 1 of 2; class 1: 1 of 2; classes 2 and 3 are not there.
    scores = segmentation.scores(counts)
    assert scores == pytest.approx({"accuracy": 50, "pixel_accuracy": 200 / 3})


def test_masks_hold_what_their_files_say(masks):
    pairs = segmentation_data.pairs("cityscapes", masks("cityscapes"), "val")
    _, test = segmentation_data.transforms(32, 32)
    images = segmentation_data.Masked(pairs, 19, segmentation_data.CITYSCAPES, test)
    image, mask = images[0]
    assert (image.shape, mask.shape) == ((3, 36, 48), (36, 48))
    # Road is the first class, car the fourteenth; 4 is not trained, and 255 is a border.
    assert mask[5, ::4].tolist() == [0, 13, 255] * 4
    assert set(mask[0].tolist()) == {255}


def test_image_and_mask_are_cut_and_turned_together(tmp_path):
    grey = np.arange(40 * 40).reshape(40, 40) // 160 * 20
    Image.fromarray(np.stack([grey] * 3, 2).astype(np.uint8)).save(tmp_path / "i.png")
    Image.fromarray((grey // 20).astype(np.uint8)).save(tmp_path / "m.png")
    train, _ = segmentation_data.transforms(24, 40)
    images = segmentation_data.Masked([(tmp_path / "i.png", tmp_path / "m.png")], 10, None, train)
    torch.manual_seed(0)
    for _ in range(5):
        image, mask = images[0]
        assert image.shape[1:] == mask.shape == (24, 24)
        seen = (image[0] * 0.229 + 0.485) * 255 / 20
        counted = mask != 255
        close = (seen[counted] - mask[counted]).abs() < 1.01
        assert close.float().mean() > 0.98


def test_exception_files_that_are_not_as_they_should_be(run, capsys, tmp_path):
    run("folders")
    mask = tmp_path / "folders" / "masks" / "train" / "train0.png"
    Image.new("RGB", (48, 36)).save(mask)
    run("folders", code=2, out="colours")
    assert "has colours: a mask has one number for a pixel" in capsys.readouterr().err
    Image.new("L", (8, 8)).save(mask)
    run("folders", code=2, out="sizes")
    assert "train0.png is of another size than" in capsys.readouterr().err
    mask.unlink()
    run("folders", code=2, out="gone")
    said = capsys.readouterr().err
    assert "train0.png is not there: --data has to have this mask" in said
    for file in (tmp_path / "folders" / "images" / "val").iterdir():
        file.unlink()
    for file in (tmp_path / "folders" / "images" / "train").iterdir():
        file.unlink()
    run("folders", code=2, out="none")
    assert "has no images of train in the folders of folders" in capsys.readouterr().err
