"""The detection recipe, on a few images and a stand-in for pycocotools."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import tiny_recipes  # isort: skip  # before torchvision
import numpy as np
import pytest
import torch

from do_conv.torch import convert, fold
from examples.recipes import detection, detection_data, stages, training
from examples.recipes.networks import imagenet

OPTIONS = ["--network", "few_boxes", "--classes", "2", "--size", "64"]
OPTIONS += ["--longest", "80", "--batch", "1", "--workers", "0", "--device", "cpu"]


@pytest.fixture
def told(monkeypatch):
    """What is given to pycocotools; a stand-in says that the precision is 0.5, 0.7 and 0.6."""
    asked = []

    class Coco:
        def __init__(self, file):
            self.file = file

        def loadRes(self, found):  # noqa: N802  # its name
            asked.append(found)
            return found

    class Evaluation:
        def __init__(self, truth, found, kind):
            assert json.loads(Path(truth.file).read_text())["images"]
            assert kind == "bbox"
            self.stats = np.array([0.5, 0.7, 0.6])

        def evaluate(self):
            pass

        accumulate = summarize = evaluate

    package, coco, evaluation = map(ModuleType, ("pycocotools", "coco", "cocoeval"))
    coco.COCO, evaluation.COCOeval = Coco, Evaluation
    monkeypatch.setitem(sys.modules, "pycocotools", package)
    monkeypatch.setitem(sys.modules, "pycocotools.coco", coco)
    monkeypatch.setitem(sys.modules, "pycocotools.cocoeval", evaluation)
    monkeypatch.setattr(detection, "is_installed", lambda name: name == "pycocotools")
    tiny_recipes.use_python_operators(monkeypatch)
    return asked


@pytest.fixture
def run(coco, tmp_path):
    def call(*options, code=0, out="results"):
        given = ["--data", str(coco), "--epochs", "1", *OPTIONS, "--out", str(tmp_path / out)]
        assert training.main(detection.Detection(), [*given, *options]) == code
        return tmp_path / out

    return call


def lines(folder, name):
    text = (folder / f"{name}-seed0.jsonl").read_text()
    return [
        {k: v for k, v in json.loads(one).items() if k != "seconds"} for one in text.splitlines()
    ]


def test_the_stages_of_table_5(run, told, tmp_path):
    """A backbone that is trained with DO-Conv, then a detector of each arm."""
    before = convert(imagenet.NETWORKS["resnet_v1b_18"](4))
    for name, parameter in before.named_parameters():
        if "delta" in name:
            torch.nn.init.normal_(parameter, std=0.01)
    file = tmp_path / "before.pt"
    torch.save(before.state_dict(), file)
    name, found = "coco-few_boxes-from-do-conv", {}
    for arm in ("plain", "do-conv"):
        folder = run("--pretrained", str(file), "--arm", arm, "--trained-stages", "1")
        (found[arm],) = lines(folder, f"{name}-{arm}")
        assert found[arm]["accuracy"] == 50
        assert (found[arm]["ap50"], found[arm]["ap75"]) == pytest.approx((70, 60))
    assert found["plain"]["loss"] == pytest.approx(found["do-conv"]["loss"], rel=0.5)
    plain = fold(before)
    for arm in ("plain", "do-conv"):
        after = torch.load(folder / f"{name}-{arm}-seed0.plain.pt", weights_only=True)
        # Layers that are not trained are those of the stage before, folded.
        kernel = after["backbone.body.layer1.0.conv1.weight"]
        assert torch.allclose(kernel, plain.layer1[0].conv1.weight, atol=1e-6)
        assert not torch.equal(
            after["backbone.body.layer4.0.conv1.weight"], plain.layer4[0].conv1.weight
        )
        assert not any("delta" in key for key in after)


def test_a_run_that_was_interrupted_ends_as_one_that_was_not(run, told):
    name = "coco-few_boxes-plain"
    options = ["--arm", "plain", "--epochs", "2"]
    whole = run(*options, out="at once")
    tiny_recipes.interrupted(lambda: run(*options))
    folder = run(*options)
    assert lines(folder, name) == lines(whole, name)
    first, second = (
        torch.load(one / f"{name}-seed0.plain.pt", weights_only=True) for one in (folder, whole)
    )
    assert all(torch.equal(first[key], second[key]) for key in second)


def test_images_and_boxes(coco):
    torch.manual_seed(0)
    train, test = (detection_data.Coco(coco, split) for split in ("train", "val"))
    assert (len(train), len(test)) == (2, 2)  # one image has no box to train on
    assert train.categories == [3, 7]
    image, found = test[1]
    assert image.shape == (3, 64, 80)
    assert found["boxes"].tolist() == [[5, 6, 35, 46]]  # not that of the crowd
    assert found["labels"].tolist() == [2]
    assert test[0][1]["boxes"].shape == (0, 4)
    turned = {tuple(train[0][1]["boxes"][0].tolist()) for _ in range(20)}
    assert turned == {(5, 6, 35, 46), (45, 6, 75, 46)}


def test_what_is_found_is_listed_in_cocos_numbers():
    found = [{
        "boxes": torch.tensor([[1.0, 2.0, 4.0, 8.0]]), "labels": torch.tensor([2]),
        "scores": torch.tensor([0.5]),
    }]  # fmt: skip
    listed = detection_data.listed(found, [{"image_id": torch.tensor(9)}], [3, 7])
    assert listed == [{"image_id": 9, "category_id": 7, "bbox": [1.0, 2.0, 3.0, 6.0], "score": 0.5}]
    assert detection.average_precision("no file", [])["accuracy"] == 0


@pytest.mark.parametrize("depth", [18, 50])
def test_the_weights_of_imagenet_fit_torchvisions_backbone(depth, tmp_path):
    before = imagenet.NETWORKS[f"resnet_v1b_{depth}"](7)
    recipe = detection.Detection()
    options = ["--dry-run", "--network", f"faster_rcnn_resnet_{depth}", "--pretrained", "x.pt"]
    given = training.options.parsed(recipe, options)
    model = recipe.network(given)
    torch.save(before.state_dict(), tmp_path / "x.pt")
    recipe.take(model, stages.Pretrained(tmp_path / "x.pt", None), tmp_path / "x.pt")
    ours, theirs = model.backbone.body.state_dict(), before.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    trained = [name for name, p in model.backbone.body.named_parameters() if p.requires_grad]
    assert {name.partition(".")[0] for name in trained} == {"layer2", "layer3", "layer4"}


@pytest.mark.skipif(
    importlib.util.find_spec("pycocotools") is not None, reason="it is about its absence"
)
def test_exception_without_pycocotools(run, capsys, tmp_path):
    run(code=2)
    said = capsys.readouterr().err
    assert "needs pycocotools, which is not installed; bring it with: pip install" in said
    assert not (tmp_path / "results").exists()


def test_exception_files_that_are_not_as_they_should_be(run, told, coco, capsys):
    file = coco / "annotations" / "instances_train2017.json"
    run("--classes", "80", code=2)
    said = capsys.readouterr().err
    assert "has 2 categories to train on and 2 to test with, not both times the 80" in said
    found = json.loads(file.read_text())
    file.write_text(json.dumps({**found, "annotations": []}))
    run(code=2)
    assert "instances_train2017.json has no image with a box" in capsys.readouterr().err
    file.write_text('{"images": []}')
    run(code=2)
    assert "cannot be read as COCO's annotations" in capsys.readouterr().err
    file.unlink()
    run(code=2)
    said = capsys.readouterr().err
    assert "instances_train2017.json is not there: --data has to have the annotations" in said
