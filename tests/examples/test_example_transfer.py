"""Fine-tuning from CIFAR-10 to CIFAR-100, on a few images and weights that the test makes."""

import numpy as np
import pytest
import torch
from task_runs import found, header

from examples import doors, tasks
from examples.cifar import data, networks
from examples.transfer import train

COUNTS = {"train.bin": 12, "test.bin": 8}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A checkpoint of a network in `nn.DataParallel`."""
    torch.manual_seed(5)
    state = networks.network("resnet_v1_20", 10).state_dict()
    file = tmp_path_factory.mktemp("weights") / "resnet20.th"
    torch.save(
        {"best_prec1": 1.0, "state_dict": {f"module.{k}": v for k, v in state.items()}}, file
    )
    return file


@pytest.fixture
def folder(tmp_path, monkeypatch):
    home = tmp_path / "data"
    (home / "cifar-100-binary").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for file, count in COUNTS.items():
        records = rng.integers(0, 3, (count, 2 + data.PIXELS), np.uint8)  # of three classes
        records[:, 2:] *= 100
        records.tofile(home / "cifar-100-binary" / file)
    monkeypatch.setattr(data, "TRAIN", {"cifar100": {"train.bin": COUNTS["train.bin"]}})
    monkeypatch.setattr(data, "TEST", {"cifar100": {"test.bin": COUNTS["test.bin"]}})
    for name, value in {"STEPS": 3, "BATCH": 4}.items():
        monkeypatch.setattr(train, name, value)
    return home


@pytest.fixture
def run(folder, weights, tmp_path):
    def call(*options, out="results"):
        common = ["--data", str(folder), "--weights", str(weights), "--threads", "1"]
        which = ["--seeds", "0", "--epochs", "2", "--percent", "100", "--out", str(tmp_path / out)]
        assert train.main([*common, *which, *options]) == 0
        return tmp_path / out

    return call


def test_a_line_for_each_epoch_and_a_header(run):
    results = run()
    for arm in tasks.ARMS:
        _, last = found(results, arm)
        assert (last["experiment"], last["epoch"]) == ("transfer-resnet_v1_20-100", 2)
        assert last["accuracy"] in {100 * right / 8 for right in range(9)}
        assert header(results, arm)["settings"]["percent"] == 100
    assert not list(results.glob("*.pt"))


@pytest.mark.parametrize("door", doors.DOORS)
def test_a_run_that_was_left_is_taken_up_to_the_same_result(taken_up, door):
    taken_up("--arms", "do-conv", "--door", door)


def test_both_doors_are_the_same_training(run):
    layers, optimizer = (run("--arms", "do-conv", "--door", door, out=door) for door in doors.DOORS)
    for one, other in zip(found(layers, "do-conv"), found(optimizer, "do-conv"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-3)


@pytest.mark.parametrize("door", doors.DOORS)
def test_both_arms_start_from_the_pretrained_weights(folder, weights, door):
    command = ["--data", str(folder), "--weights", str(weights), "--door", door]
    given = train._arguments().parse_args([*command, "--percent", "100"])
    (task,) = train.made(given)
    plain, ours = (tasks.made(given, task, arm, 3)[0].eval() for arm in tasks.ARMS)
    before = networks.network("resnet_v1_20", 10).eval()
    state = torch.load(weights, weights_only=True)["state_dict"]
    before.load_state_dict({name.removeprefix("module."): one for name, one in state.items()})
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(plain(x), ours(x))
    plain.linear = before.linear
    assert torch.equal(plain(x), before(x))


def test_a_share_has_the_first_images_of_every_class():
    labels = torch.tensor([1, 0] * 50 + [0, 1] * 50)
    images = torch.arange(200, dtype=torch.uint8).reshape(200, 1, 1, 1)
    of_both = data.Images(images, labels, torch.zeros(1), torch.ones(1))
    chosen = train.share(of_both, 1)
    assert chosen.images.flatten().tolist() == [0, 1]
    assert train.share(of_both, 10).images.flatten().tolist() == list(range(20))
    assert len(train.share(of_both, 100)) == 200


def test_images_are_normalised_as_those_of_the_training_before():
    images = torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1).expand(2, 3, 1, 1)
    black, white = train.scaled(
        data.Images(images, torch.zeros(2), torch.zeros(1), torch.ones(1))
    ).normalised(images)
    assert black.flatten().tolist() == pytest.approx(
        [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225]
    )
    assert white.flatten().tolist() == pytest.approx([0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"no checkpoint", "is no checkpoint of a ResNet-20 of He et al. for CIFAR-10 ("),
        (b"", "is no checkpoint of a ResNet-20 of He et al. for CIFAR-10 ("),
        ({"conv1.weight": torch.zeros(2)}, "Error(s) in loading state_dict"),
        ([1, 2], "is no checkpoint of a ResNet-20"),
        (None, "No such file or directory"),
    ],
)
def test_exception_other_weights(folder, tmp_path, capsys, content, sentence):
    file = tmp_path / "weights.th"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        torch.save(content, file)
    options = ["--data", str(folder), "--weights", str(file), "--out", str(tmp_path / "out")]
    assert train.main(options) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_exception_no_data(weights, capsys):
    assert train.main(["--weights", str(weights)]) == 2
    assert capsys.readouterr().err == "give --data the folder that holds cifar-100-binary\n"
