"""Denoising and deblurring, on a few pictures that the test makes."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from task_runs import found, header

from examples import doors, tasks
from examples.restoration import degradations, networks, photographs, quality, train

SIDE, GREY = 48, 128
SMALL = {"dncnn": {"depth": 4, "channels": 4}, "unet": {"widths": [4, 6]}}
CONVERTED = {"denoise": 4, "deblur": 7}
NAMES = {"denoise": "photographs-dncnn", "deblur": "photographs-unet"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Photographs of the shipped ones' names, and networks and steps that take no time."""
    home = tmp_path / "data"
    home.mkdir()
    rng = np.random.default_rng(0)
    for name in photographs.TRAIN:
        coarse = Image.fromarray(rng.integers(60, 200, (4, 4), np.uint8))
        coarse.resize((SIDE, SIDE)).save(home / name)
    for name in photographs.TEST:  # of one grey, so that no noise is cut off
        Image.new("RGB", (SIDE, SIDE + 4), (GREY,) * 3).save(home / name)
    for name, value in {"STEPS": 3, "BATCH": 4, "PATCH": 12}.items():
        monkeypatch.setattr(train, name, value)
    for name, options in SMALL.items():
        monkeypatch.setitem(networks.NETWORKS, name, (networks.NETWORKS[name][0], options))
    return home


@pytest.fixture
def run(folder, tmp_path):
    def call(*options, out="results"):
        common = ["--data", str(folder), "--threads", "1", "--seeds", "0", "--epochs", "2"]
        assert train.main([*common, "--out", str(tmp_path / out), *options]) == 0
        return tmp_path / out

    return call


@pytest.fixture(params=train.TASKS)
def name(request):
    return request.param


def task(folder, name):
    return train.Restoration(photographs.Photographs(folder), name)


def made(folder, name, arm, seed=0):
    return tasks.made(tasks.arguments("").parse_args([]), task(folder, name), arm, seed)[0]


def test_a_line_for_each_epoch_and_a_header(run, name):
    results = run("--task", name)
    for arm in tasks.ARMS:
        first, last = found(results, arm)
        assert {k: last[k] for k in ("experiment", "arm", "seed", "epoch")} == {
            "experiment": NAMES[name], "arm": arm, "seed": 0, "epoch": 2,
        }  # fmt: skip
        assert first["epoch"] == 1
        assert last["psnr"] > 0 and -1 <= last["ssim"] <= 1  # noqa: PT018
        kept, (degraded, *_) = header(results, arm), header(results, arm)["references"].values()
        # A blur leaves a photograph of one grey as it is: its noise is measured alone.
        expected = -20 * math.log10(kept["settings"]["sigma"] / 255)
        assert degraded["psnr"] == pytest.approx(expected, abs=0.3)
        assert kept["settings"]["measures"] == ["psnr", "ssim"]
    assert "door" not in header(results, "plain")["settings"]
    changes = header(results, "do-conv")["kernel_change"]
    assert [np.shape(change) for change in changes.values()] == [(3, 3)] * CONVERTED[name]
    # From the same weights on the same batches, D has moved after some steps.
    assert found(results, "plain")[0]["loss"] != found(results, "do-conv")[0]["loss"]


def test_the_settings_of_a_task_are_in_its_header(run):
    """Those of noise are of runs that are kept: with others, they would not be compared."""
    common = {"measures", "steps", "batch", "patch", "photographs", "epochs", "optimizer"}
    of_tasks = {
        "denoise": {"network": "dncnn", "depth": 4, "channels": 4, "sigma": 25},
        "deblur": {"network": "unet", "widths": [4, 6], "sigma": 2, "kernel": 15,
                   "motion": [5, 13], "gaussian": [1, 2.5]},
    }  # fmt: skip
    for name, expected in of_tasks.items():
        settings = header(run("--task", name, "--arms", "plain", out=name), "plain")["settings"]
        assert {key: settings.pop(key) for key in expected} == expected
        assert settings.keys() == common


@pytest.mark.parametrize("door", doors.DOORS)
def test_a_run_that_was_left_is_taken_up_to_the_same_result(taken_up, name, door):
    taken_up("--task", name, "--arms", "do-conv", "--door", door)


def test_both_doors_are_the_same_training(run, name):
    options = ("--task", name, "--arms", "do-conv")
    layers, optimizer = (run(*options, "--door", door, out=door) for door in doors.DOORS)
    for one, other in zip(found(layers, "do-conv"), found(optimizer, "do-conv"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert other["experiment"] == f"{one['experiment']}-optimizer"
    assert header(optimizer, "do-conv")["settings"]["door"] == "optimizer"


def test_both_arms_start_from_the_same_weights(folder, name):
    plain, ours = (made(folder, name, arm, 3) for arm in tasks.ARMS)
    x = torch.rand(1, 1, SIDE, SIDE)
    assert torch.equal(plain.eval()(x), ours.eval()(x))
    assert not torch.equal(plain(x), made(folder, name, "plain", 4).eval()(x))


def test_all_layers_are_converted(folder, name):
    model = made(folder, name, "do-conv")
    converted = [hasattr(one, "depthwise_delta") for one in model.modules()]
    assert sum(converted) == CONVERTED[name]
    assert CONVERTED[name] == sum(isinstance(one, torch.nn.Conv2d) for one in model.modules())


def matched(patch, cuts):
    """How far a patch, turned or mirrored, is from the nearest of the photographs' cuts."""
    turned = [patch.rot90(turns, (1, 2)) for turns in range(4)]
    turned += [one.flip(2) for one in turned]
    differences = torch.stack(turned).reshape(8, 1, -1) - cuts
    return differences.abs().amax(-1).min()


def test_batches_are_degraded_patches_and_what_was_added(folder, name):
    batches = list(task(folder, name).batches(torch.Generator().manual_seed(0)))
    assert len(batches) == train.STEPS
    images = torch.stack(photographs.Photographs(folder).train)
    cuts = images.unfold(2, 12, 1).unfold(3, 12, 1).reshape(-1, 12 * 12)
    for degraded, added in batches:
        assert degraded.shape == added.shape == (train.BATCH, 1, 12, 12)
        for patch in degraded - added:
            assert matched(patch, cuts) < 1e-6
    added = torch.cat([added for _, added in batches])
    if name == "denoise":
        assert added.std().item() == pytest.approx(25 / 255, rel=0.1)
    else:  # a blur changes the coarse pictures by more than the noise
        assert added.std().item() > 1.2 * 2 / 255


def test_a_network_that_knows_what_was_added_restores_the_photographs(folder, name):
    true = torch.tensor(np.float32(GREY) / 255)
    measured = task(folder, name).measured(lambda image: image - true)
    assert measured["ssim"] == 1
    assert measured["psnr"] > 100


def test_kernels_by_hand():
    still = degradations.motion_kernel(5, 0, 1.0)
    assert still[2, 2] == 1
    across, down = (degradations.motion_kernel(9, 4, angle) for angle in (0.0, math.pi / 2))
    assert torch.allclose(across, down.T, atol=1e-6)
    assert across[:4].sum() + across[5:].sum() == pytest.approx(0, abs=1e-6)
    row = across[4].tolist()
    # Four pixels from the middle of pixel 2 to that of pixel 6: the ends have half of a pixel.
    assert row == pytest.approx([0, 0, 1 / 8, 1 / 4, 1 / 4, 1 / 4, 1 / 8, 0, 0], abs=0.01)
    rising = degradations.motion_kernel(9, 6, math.pi / 4)  # rows are counted downwards
    assert rising[6, 2] > 0.05
    assert rising[2, 2] == 0
    gaussian = degradations.gaussian_kernel(15, 1.5)
    assert gaussian[7, 8] / gaussian[7, 7] == pytest.approx(math.exp(-0.5 / 1.5**2))
    for kernel in (still, across, rising, gaussian):
        assert kernel.sum() == pytest.approx(1)


def test_a_blur_moves_a_point_to_its_kernel():
    images, kernels = torch.zeros(2, 1, 13, 13), torch.rand(2, 5, 5)
    images[:, 0, 6, 6] = 1
    soft = degradations.blurred(images, kernels)
    assert soft.shape == (2, 1, 9, 9)
    assert torch.equal(soft[:, 0, 2:7, 2:7], kernels)


def test_a_blur_is_drawn_anew_for_each_patch_within_its_bounds():
    blur = degradations.Blur(side=15, motion=(5, 13), gaussian=(1, 2.5), sigma=0)
    images = torch.zeros(64, 1, 29, 29)
    images[:, 0, 14, 14] = 1
    kernels = blur.drawn(images, torch.Generator().manual_seed(0))[:, 0]
    assert len({tuple(kernel.flatten().tolist()) for kernel in kernels}) == 64
    places = torch.arange(15.0) - 7
    row, column = kernels.sum(2), kernels.sum(1)
    rows, columns = ((one * places.square()).sum(1) for one in (row, column))
    covariances = (kernels * torch.outer(places, places)).sum((1, 2))
    # A line has no width but that of its pixels: the smaller principal deviation.
    middle, apart = (rows + columns) / 2, ((rows - columns) / 2).hypot(covariances)
    narrow, wide = (middle - apart).sqrt(), (middle + apart).sqrt()
    is_line = narrow < 0.8
    assert 20 < is_line.sum() < 44
    lengths = wide[is_line] * math.sqrt(12)  # of a uniform distribution
    assert lengths.min() > 5
    assert lengths.max() < 13.5
    assert lengths.max() - lengths.min() > 4
    deviations = wide[~is_line]
    assert torch.allclose(deviations, narrow[~is_line], atol=1e-3)
    assert deviations.min() > 0.99
    assert deviations.max() < 2.5


def test_each_photograph_that_is_held_out_has_either_blur(folder):
    blur = train.TASKS["deblur"][1]
    images = photographs.Photographs(folder).test
    first, second = (list(blur.held_out(images, torch.Generator().manual_seed(0)))
                     for _ in range(2))  # fmt: skip
    assert len(first) == 2 * len(images)
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.degraded, other.degraded)
        assert one.degraded.shape == one.true.shape == (1, SIDE + 4 - 14, SIDE - 14)
    kernels = {tuple(one.kernel.flatten().tolist()) for one in first}
    assert len(kernels) == len(first)


def test_a_blur_is_beside_the_true_photograph(folder, monkeypatch):
    """A blur of no width leaves each patch and photograph where it was."""
    none = degradations.Blur(side=5, motion=(0, 0), gaussian=(0.1, 0.1), sigma=0)
    monkeypatch.setitem(train.TASKS, "deblur", ("unet", none))
    for _, added in task(folder, "deblur").batches(torch.Generator().manual_seed(0)):
        assert added.abs().max() < 1e-6
    images = photographs.Photographs(folder).train
    for one in none.held_out(images, torch.Generator().manual_seed(0)):
        assert torch.allclose(one.degraded, one.true, atol=1e-6)


@pytest.mark.parametrize("size", [(8, 8), (9, 14)])
def test_a_u_net_takes_photographs_of_any_size(size):
    network, options = networks.NETWORKS["unet"]
    model = network(**options).eval()
    x = torch.rand(2, 1, *size)
    with torch.no_grad():
        assert model(x).shape == x.shape


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


def test_the_classical_methods_restore(folder, name):
    pytest.importorskip("skimage.restoration", reason="scikit-image is not required")
    rng = np.random.default_rng(1)
    for file in photographs.TEST:  # with edges, which a blur takes away
        blocks = Image.fromarray(rng.integers(60, 200, (6, 6), np.uint8))
        blocks.resize((2 * SIDE, 2 * SIDE), Image.Resampling.NEAREST).save(folder / file)
    degraded, restored = task(folder, name).notes["references"].values()
    assert restored["psnr"] > degraded["psnr"] + 0.5
    assert restored["ssim"] > degraded["ssim"]


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
