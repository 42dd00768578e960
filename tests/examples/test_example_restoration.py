"""The denoising task, on a few pictures that the test makes."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from task_runs import found, header

from examples import doors, tasks
from examples.restoration import photographs, quality, train

SIDE = 24


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Photographs of the shipped ones' names, and a network and steps that take no time."""
    home = tmp_path / "data"
    home.mkdir()
    rng = np.random.default_rng(0)
    for name in photographs.TRAIN:
        coarse = Image.fromarray(rng.integers(60, 200, (4, 4), np.uint8))
        coarse.resize((SIDE, SIDE)).save(home / name)
    for name in photographs.TEST:  # of one grey, so that no noise is cut off
        Image.new("RGB", (SIDE, SIDE + 4), (128, 128, 128)).save(home / name)
    for name, value in {"DEPTH": 4, "CHANNELS": 4, "STEPS": 3, "BATCH": 2, "PATCH": 12}.items():
        monkeypatch.setattr(train, name, value)
    return home


@pytest.fixture
def run(folder, tmp_path):
    def call(*options, out="results"):
        common = ["--data", str(folder), "--threads", "1", "--seeds", "0", "--epochs", "2"]
        assert train.main([*common, "--out", str(tmp_path / out), *options]) == 0
        return tmp_path / out

    return call


def task(folder):
    return train.Restoration(photographs.Photographs(folder))


def test_a_line_for_each_epoch_and_a_header(run):
    results = run()
    for arm in tasks.ARMS:
        first, last = found(results, arm)
        assert {k: last[k] for k in ("experiment", "arm", "seed", "epoch")} == {
            "experiment": "photographs-dncnn", "arm": arm, "seed": 0, "epoch": 2,
        }  # fmt: skip
        assert first["epoch"] == 1
        assert last["psnr"] > 0 and -1 <= last["ssim"] <= 1  # noqa: PT018
        kept = header(results, arm)
        assert kept["settings"]["sigma"] == 25
        # The deviation is 25 of 255; 3360 pixels of noise.
        expected = -20 * math.log10(25 / 255)
        assert kept["references"]["noisy"]["psnr"] == pytest.approx(expected, abs=0.3)
    assert "door" not in header(results, "plain")["settings"]
    changes = header(results, "do-conv")["kernel_change"]
    assert [np.shape(change) for change in changes.values()] == [(3, 3)] * 4
    assert not list(results.glob("*.pt"))
    # From the same weights on the same batches, D has moved after some steps.
    assert found(results, "plain")[0]["loss"] != found(results, "do-conv")[0]["loss"]


@pytest.mark.parametrize("door", doors.DOORS)
def test_a_run_that_was_left_is_taken_up_to_the_same_result(taken_up, door):
    taken_up("--arms", "do-conv", "--door", door)


def test_both_doors_are_the_same_training(run):
    layers, optimizer = (run("--arms", "do-conv", "--door", door, out=door) for door in doors.DOORS)
    for one, other in zip(found(layers, "do-conv"), found(optimizer, "do-conv"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert other["experiment"] == f"{one['experiment']}-optimizer"
    assert header(optimizer, "do-conv")["settings"]["door"] == "optimizer"


def test_both_arms_start_from_the_same_weights(folder):
    given = tasks.arguments("", 1).parse_args([])
    plain, ours = (tasks.made(given, task(folder), arm, 3)[0] for arm in tasks.ARMS)
    x = torch.rand(1, 1, SIDE, SIDE)
    assert torch.equal(plain.eval()(x), ours.eval()(x))
    assert not torch.equal(plain(x), tasks.made(given, task(folder), "plain", 4)[0].eval()(x))


def test_all_layers_are_converted(folder):
    given = tasks.arguments("", 1).parse_args([])
    model = tasks.made(given, task(folder), "do-conv", 0)[0]
    assert sum(hasattr(one, "depthwise_delta") for one in model.modules()) == train.DEPTH


def test_batches_are_noisy_patches_and_their_noise(folder):
    batches = list(task(folder).batches(torch.Generator().manual_seed(0)))
    assert len(batches) == train.STEPS
    images = torch.stack(photographs.Photographs(folder).train)
    cuts = images.unfold(2, 12, 1).unfold(3, 12, 1).reshape(-1, 12 * 12)
    for noisy, noise in batches:
        assert noisy.shape == noise.shape == (train.BATCH, 1, 12, 12)
        for patch in noisy - noise:
            turned = [patch.rot90(turns, (1, 2)) for turns in range(4)]
            turned += [one.flip(2) for one in turned]
            differences = torch.stack(turned).reshape(8, 1, -1) - cuts
            assert differences.abs().amax(-1).min() < 1e-6
    noise = torch.cat([noise for _, noise in batches])
    assert noise.std().item() == pytest.approx(25 / 255, rel=0.1)


def test_a_network_that_knows_the_noise_restores_the_photographs(folder):
    noisy = iter(train.noisy_all(photographs.Photographs(folder).test))
    true = 128 / 255
    measured = task(folder).measured(lambda image: image - true)
    assert measured["ssim"] == 1
    assert measured["psnr"] > 100
    assert next(noisy).std().item() == pytest.approx(25 / 255, rel=0.1)


def test_psnr_and_ssim_by_hand():
    bright, dark = torch.full((1, 16, 16), 0.75), torch.full((1, 16, 16), 0.25)
    assert quality.psnr(bright, dark) == pytest.approx(10 * math.log10(4))
    # Of flat pictures the luminance alone differs.
    luminance = (2 * 0.75 * 0.25 + 1e-4) / (0.75**2 + 0.25**2 + 1e-4)
    assert quality.ssim(bright, dark) == pytest.approx(luminance)
    image = torch.rand(1, 16, 20, generator=torch.Generator().manual_seed(0))
    assert quality.ssim(image, image) == pytest.approx(1)
    # The negative has the same means and variances where the mean is 1/2, and covariance -1 times.
    assert quality.ssim(1 - image, image) < 0


def test_ssim_is_that_of_scikit_image():
    metrics = pytest.importorskip("skimage.metrics", reason="scikit-image is not required")
    one, other = np.random.default_rng(0).random((2, 20, 30))
    expected = metrics.structural_similarity(
        one, other, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    found_ = quality.ssim(torch.from_numpy(one)[None], torch.from_numpy(other)[None])
    assert found_ == pytest.approx(expected, rel=1e-9)


def test_non_local_means_restore(folder):
    pytest.importorskip("skimage.restoration", reason="scikit-image is not required")
    noisy, smoothed = task(folder).notes["references"].values()
    assert smoothed["psnr"] > noisy["psnr"] + 5
    assert smoothed["ssim"] > noisy["ssim"]


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (lambda file: file.unlink(), "page.png is not there: install a version of its package"),
        (lambda file: file.write_bytes(b"no picture"), "page.png is no picture (cannot identify"),
    ],
)
def test_exception_missing_or_broken_files(folder, tmp_path, capsys, break_it, sentence):
    break_it(folder / "page.png")
    assert train.main(["--data", str(folder), "--out", str(tmp_path / "results")]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    assert not (tmp_path / "results").exists()


def test_exception_other_photographs(run, folder, tmp_path, capsys):
    run("--arms", "plain")
    Image.new("L", (SIDE, SIDE), 7).save(folder / "page.png")
    common = ["--data", str(folder), "--out", str(tmp_path / "results"), "--epochs", "2"]
    assert train.main([*common, "--seeds", "0", "--arms", "plain"]) == 2
    assert "is of a run with photographs '" in capsys.readouterr().err
