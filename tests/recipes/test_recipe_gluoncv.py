"""GluonCV's segmentation, on a few images that the test makes."""

import json

from do_conv.zoo import import_gluoncv
from examples.recipes import gluoncv_segmentation as recipe  # before mxnet

# isort: split
import mxnet as mx
import numpy as np
import pytest
from PIL import Image

SIDE = 48


@pytest.fixture
def voc(tmp_path):
    """PASCAL VOC's folders, with squares of two classes on noise."""
    home = tmp_path / "data" / "VOC2012"
    for folder in recipe.FOLDERS:
        (home / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    names = [f"image{i}" for i in range(5)]
    for i, name in enumerate(names):
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[8:40, 8:40] = 1 + i % 2
        mask[:2] = 255  # of no class
        image = rng.integers(0, 60, (SIDE, SIDE, 3)) + 90 * mask[..., None].clip(0, 2)
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(home / f"JPEGImages/{name}.jpg")
        Image.fromarray(mask).save(home / f"SegmentationClass/{name}.png")
    splits = home / "ImageSets/Segmentation"
    (splits / "trainval.txt").write_text("\n".join(names[:4]) + "\n")
    (splits / "val.txt").write_text("\n".join(names[3:]) + "\n")
    return tmp_path / "data"


@pytest.fixture
def run(voc, tmp_path):
    common = ["--data", str(voc), "--model", "fcn", "--backbone", "resnet50", "--crop", str(SIDE)]
    common += ["--epochs", "1", "--batch", "2", "--results", str(tmp_path / "results")]
    return lambda *more: recipe.main([*common, "--out", str(tmp_path / "plain.params"), *more])


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_trained_and_folded(run, tmp_path, capsys):
    assert run() == 0
    said = capsys.readouterr().out
    assert "left: a 1 x 1 kernel has nothing to over-parameterize" in said
    difference = float(said.split("largest difference of ")[1].split()[0])
    assert difference <= 1e-5
    (file,) = (tmp_path / "results").glob("*.jsonl")
    (line,) = map(json.loads, file.read_text().splitlines())
    assert line["experiment"] == "gluoncv-voc-fcn-resnet50"
    assert (line["arm"], line["epoch"]) == ("do-conv", 1)
    assert 0 <= line["accuracy"] <= line["pixel_accuracy"] <= 100
    plain = import_gluoncv().get_fcn(
        dataset="pascal_voc", backbone="resnet50", pretrained_base=False, crop_size=SIDE
    )
    plain.load_parameters(str(tmp_path / "plain.params"))
    assert np.isfinite(plain(mx.nd.ones((1, 3, SIDE, SIDE)))[0].asnumpy()).all()
    assert type(plain.head.block[0]) is mx.gluon.nn.Conv2D


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_both_doors_are_the_same_training(run, tmp_path, capsys):
    """For one step: in the next, batch normalisation of two images has magnified the roundings."""
    found, one_step = [], ("--rate", "0.01", "--batch", "4")
    for door in ("layers", "optimizer"):
        assert run("--door", door, *one_step, "--out", str(tmp_path / door)) == 0
        found.append(mx.nd.load(str(tmp_path / door)))
    assert "folded" not in capsys.readouterr().out.splitlines()[-2]
    layers, optimizer = found
    assert layers.keys() == optimizer.keys()
    for name, value in layers.items():
        difference = abs(value - optimizer[name]).max().asscalar()
        assert difference <= 1e-4 * abs(value).max().asscalar()
    headers = map(json.loads, (f.read_text() for f in (tmp_path / "results").glob("*.json")))
    assert {one["experiment"]: one["settings"]["door"] for one in headers} == {
        "gluoncv-voc-fcn-resnet50": "layers", "gluoncv-voc-fcn-resnet50-optimizer": "optimizer",
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_a_dry_run_needs_no_data(run, voc, tmp_path, capsys):
    assert run("--dry-run", "--data", str(tmp_path / "nothing")) == 0
    assert "whole model" in capsys.readouterr().out
    assert not (tmp_path / "results").exists()


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_exception_data_that_is_not_there(run, tmp_path, capsys):
    assert run("--data", str(tmp_path / "nothing")) == 2
    said = capsys.readouterr().err
    assert "JPEGImages is not there: it has to be a folder of PASCAL VOC 2012" in said
    assert run("--backbone-weights", str(tmp_path / "no.params")) == 2
    assert "no.params is not there: it has to be a parameter file" in capsys.readouterr().err
