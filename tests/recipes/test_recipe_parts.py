"""What the recipes are made of: networks, rates, batches; dry runs; and what is refused."""

import re

import tiny_recipes  # isort: skip  # before torchvision
import pytest
import torch

from examples.recipes import classification, detection, feeding, rates, segmentation, training
from examples.recipes.networks import imagenet
from examples.report.paper import TABLES

RECIPES = {
    "classification": classification.Classification,
    "segmentation": segmentation.Segmentation,
    "detection": detection.Detection,
}
# Of GluonCV's networks, without the biases of v1 that a normalisation takes away.
PARAMETERS = {
    "plain_18": 11_515_688, "resnet_v1_18": 11_689_512, "resnet_v1_50": 25_557_032,
    "resnet_v1b_50": 25_557_032, "resnet_v2_18": 11_687_848, "resnet_v2_50": 25_549_480,
    "resnext_50_32x4d": 25_028_904, "mobilenet_v1": 4_231_976, "mobilenet_v2": 3_504_872,
    "mobilenet_v3": 5_483_032,
}  # fmt: skip


@pytest.mark.parametrize(("name", "parameters"), PARAMETERS.items())
def test_networks_have_their_parameters_and_run(name, parameters):
    model = imagenet.NETWORKS[name](1000).eval()
    assert sum(p.numel() for p in model.parameters()) == parameters
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)


def test_every_row_of_tables_2_and_3_has_a_network():
    (table,) = (one for one in TABLES if one.name == "Tables 2 and 3")
    assert {row.label for row in table.rows} == set(imagenet.LABELS.values())
    assert imagenet.LABELS.keys() <= imagenet.NETWORKS.keys()


def test_the_stride_of_v1_is_in_the_first_convolution_and_of_v1b_in_the_second():
    strides = {}
    for kind in ("v1", "v1b"):
        block = imagenet.NETWORKS[f"resnet_{kind}_50"](10).layer2[0]
        strides[kind] = [block.conv1.stride, block.conv2.stride, block.conv3.stride]
    assert strides == {"v1": [(2, 2), (1, 1), (1, 1)], "v1b": [(1, 1), (2, 2), (1, 1)]}


def test_plain_18_has_nothing_beside_its_convolutions():
    block = imagenet.NETWORKS["plain_18"](10).layer1[0].eval()
    torch.nn.init.zeros_(block.conv2.weight)
    assert torch.equal(block(torch.randn(1, 64, 4, 4)), torch.zeros(1, 64, 4, 4))


def test_rates():
    cosine = [rates.cosine(100, 10)(step) for step in range(100)]
    assert cosine[0] == pytest.approx(0.1)
    assert max(cosine) == cosine[9] == 1
    assert cosine[54] == pytest.approx(0.5)
    assert cosine[-1] == pytest.approx(0)
    assert [rates.poly(4)(step) for step in (0, 2)] == pytest.approx([1, 0.5**0.9])
    fall = rates.tenths((10.0, 20.0), 2)
    assert [fall(step) for step in (0, 1, 2, 10, 20)] == pytest.approx([0.1, 0.55, 1, 0.1, 0.01])
    short = classification.Classification()
    for epochs in (1, 2, 7):
        given = training.options.parsed(short, ["--dry-run", "--epochs", str(epochs)])
        factors = [short.factor(given, 3)(step) for step in range(3 * epochs)]
        assert 0 <= min(factors) <= max(factors) == pytest.approx(1, abs=0.3)


def test_batches_of_several_processes_are_those_of_one(monkeypatch):
    whole = list(feeding.Shuffled(11, 4, seed=1))
    assert [len(batch) for batch in whole] == [4, 4]
    monkeypatch.setattr(feeding.distributed, "world", lambda: 2)
    parts, tests = [], []
    for rank in range(2):
        monkeypatch.setattr(feeding.distributed, "rank", lambda rank=rank: rank)
        parts.append(list(feeding.Shuffled(11, 4, seed=1)))
        tests += [place for batch in feeding.InOrder(5, 2) for _, place in batch]
    for batch, *shares in zip(whole, *parts, strict=True):
        assert sorted(batch) == sorted(one for share in shares for one in share)
    assert sorted(tests) == [0, 1, 2, 3, 4]
    later = feeding.Shuffled(11, 4, seed=1)
    later.epoch = 2
    assert list(later) != parts[1]


def test_what_is_drawn_for_an_image_depends_on_the_epoch_and_the_image_alone():
    class Noise(list):
        def __getitem__(self, place):
            return torch.rand(())

    drawn = feeding.Drawn(Noise())
    state = torch.random.get_rng_state()
    first = [float(drawn[which]) for which in ((5, 0), (5, 1), (6, 0), (5, 0))]
    assert first[0] == first[3]
    assert len(set(first)) == 3
    assert torch.equal(torch.random.get_rng_state(), state)


DRY = {
    "classification": (
        ["--network", "resnet_v1b_50", "--size", "64"],
        "120 epochs of 5,004 steps of 256 images out of 1,281,167: 600,480 steps",
    ),
    "segmentation": (
        ["--layout", "voc-aug", "--network", "deeplabv3_resnet_50", "--crop", "64"],
        "50 epochs of 661 steps of 16 images out of 10,582: 33,050 steps",
    ),
    "detection": (
        ["--network", "faster_rcnn_resnet_18", "--size", "64", "--longest", "64"],
        "26 epochs of 14,658 steps of 8 images out of 117,266: 381,108 steps",
    ),
}


@pytest.mark.parametrize("task", RECIPES)
def test_a_dry_run_says_what_it_would_do_and_needs_no_data(task, capsys, monkeypatch, tmp_path):
    tiny_recipes.use_python_operators(monkeypatch)
    options, steps = DRY[task]
    monkeypatch.chdir(tmp_path)
    assert training.main(RECIPES[task](), ["--dry-run", *options]) == 0
    said = capsys.readouterr().out
    assert steps in said
    assert "DOConv2d" in said
    assert "left: a 1 x 1 kernel has nothing to over-parameterize" in said
    plain, trained = (
        [int(one.replace(",", "")) for one in re.findall(r" (\d[\d,]{5,})\b", line)]
        for line in said.splitlines()[-3:-1]
    )
    assert trained[0] > plain[0]
    assert plain[1] < trained[1] < 2 * plain[1]
    assert not list(tmp_path.iterdir())
    assert training.main(RECIPES[task](), ["--dry-run", "--door", "optimizer", *options]) == 0
    assert "W and D' are in the optimizer, and the network stays plain" in capsys.readouterr().out
    assert training.main(RECIPES[task](), ["--dry-run", "--arm", "plain", *options]) == 0
    assert "DOConv2d" not in capsys.readouterr().out


def refused(recipe, options, capsys):
    """The one sentence of a run that cannot be."""
    assert training.main(RECIPES[recipe](), options) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


@pytest.mark.parametrize("task", RECIPES)
def test_exception_an_unknown_network_and_no_data(task, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(RECIPES[task], "ready", lambda *_: None)
    said = refused(task, ["--network", "resnet"], capsys)
    assert "no network 'resnet'; there are " in said
    assert next(iter(RECIPES[task].networks)) in said
    assert "--data is missing" in refused(task, [], capsys)
    gone = ["--data", str(tmp_path / "gone"), "--out", str(tmp_path / "out")]
    said = refused(task, gone, capsys)
    assert f"{tmp_path / 'gone'}" in said
    assert "is not there: --data has to have" in said
    assert not (tmp_path / "out").exists()


@pytest.fixture
def options(image_folder, tmp_path):
    common = ["--data", str(image_folder), "--network", "tiny", "--epochs", "1", "--classes", "3"]
    common += ["--size", "16", "--workers", "0", "--device", "cpu", "--out", str(tmp_path / "out")]
    return [*common, "--batch", "4"]


def test_exception_folders_without_images_or_of_other_classes(options, image_folder, capsys):
    (image_folder / "val" / "n2").rename(image_folder / "val" / "n9")
    assert "are not of the same classes" in refused("classification", options, capsys)
    said = refused("classification", [*options, "--data", str(image_folder / "train")], capsys)
    assert "train is not there" in said
    (image_folder / "train").rename(image_folder / "gone")
    (image_folder / "train" / "n0").mkdir(parents=True)
    said = refused("classification", options, capsys)
    assert "train has no images: it has to have a folder of them for each class" in said


def test_exception_options_that_do_not_fit_the_data(options, image_folder, capsys):
    said = refused("classification", [*options, "--classes", "2"], capsys)
    assert "has 3 classes, more than --classes 2" in said
    said = refused("classification", [*options, "--batch", "13"], capsys)
    assert "there are 12 images to train on, fewer than --batch 13" in said
    (image_folder / "train" / "n0" / "0.png").write_bytes(b"no image")
    for workers in ("0", "1"):
        said = refused("classification", [*options, "--workers", workers], capsys)
        assert "cannot identify image file" in said


@pytest.mark.parametrize("epochs", ["0", "-1", "many"])
def test_exception_epochs_that_are_none(epochs, capsys):
    with pytest.raises(SystemExit) as left:
        training.main(classification.Classification(), ["--epochs", epochs])
    assert left.value.code == 2
    assert "argument --epochs" in capsys.readouterr().err


def test_exception_resuming_with_other_settings(options, capsys, tmp_path):
    assert training.main(classification.Classification(), options) == 0
    said = refused("classification", [*options, "--rate", "0.5"], capsys)
    assert "is of a run with rate 0.0015625, not rate 0.5: name another folder with --out" in said
    broken = tmp_path / "out" / "imagenet-tiny-do-conv-seed0.pt"
    broken.write_bytes(b"no state")
    said = refused("classification", options, capsys)
    assert f"{broken} cannot be read as the state of this run" in said


def test_exception_weights_that_cannot_be_taken(options, capsys, tmp_path):
    file = tmp_path / "weights.pt"
    options += ["--pretrained", str(file)]
    assert "weights.pt is not there" in refused("classification", options, capsys)
    file.write_bytes(b"no weights")
    assert "cannot be read as weights of PyTorch" in refused("classification", options, capsys)
    torch.save({"other.weight": torch.zeros(2)}, file)
    said = refused("classification", options, capsys)
    assert "is of another network: it has no 'conv1.weight' of shape (8, 3, 3, 3)" in said
    torch.save({"conv1.depthwise_delta": torch.zeros(3, 9, 3, 3)}, file)
    said = refused("classification", [*options, "--pretrained-arm", "plain"], capsys)
    assert "holds weights of DO-Conv" in said


def test_exception_a_loss_that_is_no_number(options, capsys):
    said = refused("classification", [*options, "--rate", "1e30", "--epochs", "3"], capsys)
    assert "begin anew with less --rate" in said


def test_exception_an_output_that_cannot_be_written(options, capsys, tmp_path):
    (tmp_path / "out").write_text("a file")
    assert "an output path must be writable" in refused("classification", options, capsys)


@pytest.mark.skipif(torch.cuda.is_available(), reason="it is about a machine without a GPU")
def test_exception_a_device_that_is_not_there(options, capsys):
    said = refused("classification", [*options, "--device", "cuda"], capsys)
    assert "--device cuda needs a GPU" in said
