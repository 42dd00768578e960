"""The three demonstrations on MNIST, on a few images that the test makes."""

import gzip
import hashlib
import importlib
import json
from dataclasses import replace

import numpy as np
import pytest

from examples.mnist import data, run

FRAMEWORKS = ("torch", "keras", "gluon")
COUNTS = {"train": 250, "test": 50}
# Parameters by the layers that each module names.
PARAMETERS = {
    "torch": 160 + 2320 + 1450,
    "keras": 320 + 2312 + 8 * 24 * 24 * 10 + 10,
    "gluon": 520 + 25_050 + 800 * 500 + 500 + 5010,
}
COUNT = {
    "torch": lambda model: sum(p.numel() for p in model.parameters()),
    "keras": lambda model: model.count_params(),
    "gluon": lambda model: sum(p.data().size for p in model.collect_params().values()),
}


def module(framework):
    return importlib.import_module(f"examples.mnist.{framework}_mnist")


@pytest.fixture
def files(tmp_path, monkeypatch):
    """MNIST's four files with few images, whose brightest part is the class."""
    folder, published = tmp_path / "mnist", {}
    folder.mkdir()
    rng = np.random.default_rng(0)
    for part, count in COUNTS.items():
        classes = rng.integers(0, 10, count).astype(np.uint8)
        images = rng.integers(0, 50, (count, 28, 28)).astype(np.uint8)
        images[np.arange(count), classes * 2 + 4] = 255
        entries = []
        for (name, _), head, array in zip(
            data.FILES[part], data.HEADS, (images, classes), strict=True
        ):
            packed = gzip.compress(bytes(head) + array.tobytes())
            (folder / name).write_bytes(packed)
            entries.append((name, hashlib.md5(packed, usedforsecurity=False).hexdigest()))
        published[part] = tuple(entries)
    monkeypatch.setattr(data, "FILES", published)
    return folder


def lines(folder, name):
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_line_for_each_epoch_of_each_arm(framework, files, tmp_path, monkeypatch):
    sample, out = module(framework), tmp_path / "results"
    short = replace(sample.DEMONSTRATION, training=200, epochs=2)
    monkeypatch.setattr(sample, "DEMONSTRATION", short)
    arguments = ["--data", str(files), "--out", str(out), "--seeds", "3"]
    assert sample.main(arguments) == 0
    for arm in ("plain", "do-conv"):
        first, last = lines(out, f"mnist-{framework}-{arm}-seed3")
        assert {k: last[k] for k in ("experiment", "arm", "seed", "epoch")} == {
            "experiment": f"mnist-{framework}", "arm": arm, "seed": 3, "epoch": 2,
        }  # fmt: skip
        assert 0 <= last["accuracy"] <= 100
        assert first["epoch"] == 1
        assert "accuracy_test" in last
    header = json.loads((out / f"mnist-{framework}-plain-seed3.json").read_text())
    assert header["settings"]["batch"] == short.settings["batch"]
    # A run that has ended is not run again; one that was interrupted begins anew.
    kept = {path.name: path.read_bytes() for path in out.iterdir()}
    ended = out / f"mnist-{framework}-plain-seed3.jsonl"
    ended.write_text(ended.read_text().splitlines(keepends=True)[0])
    elsewhere = {**header, "places": [{"machine": {"threads": 99}}]}
    ended.with_suffix(".json").write_text(json.dumps(elsewhere))
    assert sample.main(arguments) == 0
    again = lines(out, f"mnist-{framework}-plain-seed3")
    assert [line["epoch"] for line in again] == [1, 2]
    header_again = json.loads((out / f"mnist-{framework}-plain-seed3.json").read_text())
    assert header_again["places"] == header["places"]
    first = json.loads(kept[ended.name].decode().splitlines()[0])
    assert again[0]["accuracy"] == first["accuracy"]
    other = f"mnist-{framework}-do-conv-seed3.jsonl"
    assert (out / other).read_bytes() == kept[other]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_both_arms_start_alike_and_learn(framework, files):
    arm = module(framework).DEMONSTRATION.arm
    train, _ = data.load(files, own=None)
    plain, ours = arm("plain", 1), arm("do-conv", 1)
    images = run.scaled(train.images)
    start = plain.classes(images)
    np.testing.assert_array_equal(start, ours.classes(images))
    for network in (plain, ours):
        before = run.accuracy(network, train)
        for _ in range(20):
            network.train(images, train.classes)
        assert run.accuracy(network, train) > before + 10
    assert not np.array_equal(start, arm("plain", 2).classes(images))


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_networks_have_the_parameters_of_their_layers(framework):
    model = module(framework).DEMONSTRATION.arm("plain", 0).model
    assert COUNT[framework](model) == PARAMETERS[framework]


def test_exception_a_file_that_is_not_there(files, tmp_path, capsys):
    (files / "train-labels-idx1-ubyte.gz").unlink()
    assert module("torch").main(["--data", str(files), "--out", str(tmp_path / "out")]) == 2
    assert "train-labels-idx1-ubyte.gz is not there: give --data" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_exception_a_damaged_file(files, tmp_path, capsys):
    path = files / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-1])
    assert module("torch").main(["--data", str(files), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert f"{path.stat().st_size:,} bytes of MD5" in said
    assert "fetch it again" in said


@pytest.mark.parametrize("ending", ["json", "jsonl"])
def test_exception_a_damaged_record(files, tmp_path, capsys, ending):
    damaged = tmp_path / f"mnist-torch-plain-seed0.{ending}"
    damaged.write_text('{"experiment"')
    assert module("torch").main(["--data", str(files), "--out", str(tmp_path)]) == 2
    assert f"{damaged} is no JSON (" in capsys.readouterr().err


def test_exception_no_download(tmp_path, capsys, monkeypatch):
    def download():
        raise OSError("no route to host")

    sample = module("torch")
    monkeypatch.setattr(sample, "DEMONSTRATION", replace(sample.DEMONSTRATION, download=download))
    assert sample.main(["--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "MNIST could not be downloaded (no route to host): give --data the folder" in said
