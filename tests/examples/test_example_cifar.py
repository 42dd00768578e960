"""The CIFAR experiment, on a few images that the test makes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from task_runs import found, left

import do_conv.torch
from examples import doors
from examples.cifar import data, networks, schedules, state, train
from examples.records import Record

ROOT = Path(__file__).parents[2]
COUNTS = {"train.bin": 256, "test.bin": 100}


@pytest.fixture
def few_images(tmp_path, monkeypatch):
    folder = tmp_path / "data" / "cifar-100-binary"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for file, count in COUNTS.items():
        rng.integers(0, 100, (count, 2 + data.PIXELS), np.uint8).tofile(folder / file)
    monkeypatch.setattr(data, "TRAIN", {"cifar100": {"train.bin": COUNTS["train.bin"]}})
    monkeypatch.setattr(data, "TEST", {"cifar100": {"test.bin": COUNTS["test.bin"]}})
    two = schedules.Schedule(2, schedules.SCHEDULES["short"].factor)
    monkeypatch.setitem(schedules.SCHEDULES, "short", two)


@pytest.fixture
def run(few_images, tmp_path):
    def call(*options, out="results"):
        common = ["--data", str(tmp_path / "data"), "--threads", "1", "--seeds", "0"]
        assert train.main([*common, "--out", str(tmp_path / out), *options]) == 0
        return tmp_path / out

    return call


def test_a_line_for_each_epoch_and_a_header(run):
    folder = run("--arms", "plain", "do-conv")
    for arm in train.ARMS:
        first, last = found(folder, arm)
        assert {k: last[k] for k in ("experiment", "arm", "seed", "epoch")} == {
            "experiment": "cifar100-resnet_v2_20", "arm": arm, "seed": 0, "epoch": 2,
        }  # fmt: skip
        assert 0 <= last["accuracy"] <= 100
        assert first["epoch"] == 1
    header = json.loads((folder / "cifar100-resnet_v2_20-do-conv-seed0.json").read_text())
    assert header["settings"]["network"] == "resnet_v2_20"
    assert header["places"][0]["versions"]["torch"] == torch.__version__
    assert not list(folder.glob("*.pt"))
    changes = header["kernel_change"]
    assert len(changes) == 19
    assert all(np.shape(change) == (3, 3) and np.max(change) == 1 for change in changes.values())
    # From the same weights on the same batches, D has moved after some steps.
    assert found(folder, "plain")[0]["loss"] != found(folder, "do-conv")[0]["loss"]


@pytest.mark.parametrize("door", doors.DOORS)
def test_a_run_that_was_left_is_taken_up_to_the_same_result(taken_up, door):
    taken_up("--arms", "do-conv", "--door", door)


@pytest.mark.parametrize("start", ["identity", "he"])
def test_both_doors_are_the_same_training(run, start, monkeypatch):
    # After two steps in float32: batch normalisation of so few images magnifies roundings.
    one_epoch = schedules.Schedule(1, schedules.SCHEDULES["short"].factor)
    monkeypatch.setitem(schedules.SCHEDULES, "short", one_epoch)
    options, changes = ("--arms", "do-conv", "--depthwise-init", start), {}
    layers, optimizer = (run(*options, "--door", door, out=door) for door in doors.DOORS)
    for one, other in zip(found(layers, "do-conv"), found(optimizer, "do-conv"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
        assert other["experiment"] == f"{one['experiment']}-optimizer"
    for folder, door in zip((layers, optimizer), doors.DOORS, strict=True):
        (file,) = folder.glob("*.json")
        header = json.loads(file.read_text())
        assert header["settings"]["door"] == door
        changes[door] = header["kernel_change"]
    assert changes["layers"].keys() == changes["optimizer"].keys()
    for name, change in changes["layers"].items():
        np.testing.assert_allclose(
            change, changes["optimizer"][name], rtol=0, atol=1.1e-3
        )  # kept to 3 digits


def test_files_that_do_not_say_their_door_are_of_layers(run, tmp_path, capsys):
    """Such as those of runs that began before there was another one."""
    expected = found(run("--arms", "do-conv", out="at once"), "do-conv")
    left(lambda: run("--arms", "do-conv"), Record, "add", 2)
    header = tmp_path / "results" / "cifar100-resnet_v2_20-do-conv-seed0.json"
    content = json.loads(header.read_text())
    assert content["settings"].pop("door") == "layers"
    header.write_text(json.dumps(content))
    assert found(run("--arms", "do-conv"), "do-conv") == expected
    content["settings"]["door"] = "optimizer"
    header.write_text(json.dumps(content))
    common = ["--data", str(tmp_path / "data"), "--out", str(header.parent), "--seeds", "0"]
    assert train.main([*common, "--arms", "do-conv"]) == 2
    assert "is of a run with door 'optimizer', not door 'layers'" in capsys.readouterr().err


def test_processes_share_the_runs(run, monkeypatch):
    alone = run("--seeds", "0", "1", "--arms", "plain", "do-conv", out="alone")
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        shared = run("--seeds", "0", "1", "--arms", "plain", "do-conv", out="shared")
        assert len(list(shared.glob("*.jsonl"))) == 2 + 2 * int(rank)
    for arm in train.ARMS:
        assert found(shared, arm) == found(alone, arm)


def test_both_arms_start_from_the_same_weights(tmp_path):
    given = train._arguments().parse_args(["--data", str(tmp_path)])
    plain, ours = (train.made(given, arm, 3)[0] for arm in train.ARMS)
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(plain.eval()(x), ours.eval()(x))
    other = train.made(given, "plain", 4)[0]
    assert not torch.equal(plain(x), other.eval()(x))


@pytest.mark.parametrize(
    ("options", "converted", "d_mul"),
    [
        ([], 19, 9),
        (["--stages", "0"], 1, 9),
        (["--stages", "0", "2"], 7, 9),
        (["--d-mul", "(M+2)(N+2)"], 19, 25),
        (["--d-mul", "4MN"], 19, 36),
    ],
)
def test_tables_6_and_8_are_options(tmp_path, options, converted, d_mul):
    given = train._arguments().parse_args(["--data", str(tmp_path), *options])
    model = train.made(given, "do-conv", 0)[0]
    specs = [module.spec for module in model.modules() if hasattr(module, "depthwise_delta")]
    assert (len(specs), {spec.d_mul for spec in specs}) == (converted, {d_mul})


def test_runs_of_different_options_have_different_names(tmp_path):
    parse = train._arguments().parse_args
    options = {
        "": [],
        "-stages1": ["--stages", "1"],
        "-he": ["--depthwise-init", "he"],
        "-dmul-4": ["--d-mul", "4MN"],
        "-optimizer": ["--door", "optimizer"],
        "-stages1-optimizer": ["--stages", "1", "--door", "optimizer"],
        "-full": ["--schedule", "full"],
    }
    for name, one in options.items():
        given = parse(["--data", str(tmp_path), *one])
        assert state.experiment(given, "do-conv") == f"cifar100-resnet_v2_20{name}"
        plain = name if name == "-full" else ""
        assert state.experiment(given, "plain") == f"cifar100-resnet_v2_20{plain}"


PARAMETERS = {
    "plain_20": 269_722, "resnet_v1_20": 269_722, "resnet_v1_56": 853_018,
    "resnet_v1_110": 1_727_962,
}  # fmt: skip


@pytest.mark.parametrize(("name", "parameters"), PARAMETERS.items())
def test_parameters_of_he_et_al(name, parameters):
    """He et al. give 0.27, 0.85 and 1.7 million for depths 20, 56 and 110."""
    model = networks.network(name, 10)
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize("kind", ["plain", "resnet_v1", "resnet_v2"])
@pytest.mark.parametrize("depth", networks.DEPTHS)
def test_networks_have_their_depth_and_run(kind, depth):
    model = networks.network(f"{kind}_{depth}", 100).eval()
    names = [
        n for n, m in model.named_modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))
    ]
    assert sum("projection" not in name for name in names) == depth
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 100)


def test_augmentation_crops_and_flips():
    images = torch.arange(1, 1 + 2 * 3 * 8 * 8).reshape(2, 3, 8, 8)
    padded = torch.nn.functional.pad(images, (data.BORDER,) * 4)
    flipped = 0
    for seed in range(20):
        moved = data.augmented(images, torch.Generator().manual_seed(seed))
        for image, one in zip(padded, moved, strict=True):
            crops = [image[:, i : i + 8, j : j + 8] for i in range(9) for j in range(9)]
            straight = any(torch.equal(one, crop) for crop in crops)
            mirrored = any(torch.equal(one, crop.flip(2)) for crop in crops)
            assert straight or mirrored
            flipped += mirrored
    assert 5 < flipped < 35


@pytest.mark.parametrize("name", schedules.SCHEDULES)
def test_schedules_begin_high_and_end_low(name):
    schedule = schedules.SCHEDULES[name]
    steps = 391
    factors = [schedule.factor(step, steps) for step in range(schedule.epochs * steps)]
    assert max(factors) == pytest.approx(1)
    assert factors[-1] <= 0.01
    assert factors[-1] == min(factors)


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (lambda folder: (folder / "test.bin").unlink(), "test.bin is not there: give --data"),
        (
            lambda folder: (folder / "train.bin").write_bytes(b"short"),
            "train.bin has 5 bytes, not 786,944: fetch it again",
        ),
    ],
)
def test_exception_missing_or_short_files(few_images, tmp_path, capsys, break_it, sentence):
    break_it(tmp_path / "data" / "cifar-100-binary")
    assert train.main(["--data", str(tmp_path / "data"), "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1


def test_exception_resuming_with_other_settings(run, capsys, tmp_path):
    folder = run("--arms", "do-conv")
    header = folder / "cifar100-resnet_v2_20-do-conv-seed0.json"
    header.write_text(header.read_text().replace('"MN"', '"4MN"'))
    common = ["--data", str(tmp_path / "data"), "--out", str(folder), "--seeds", "0"]
    assert train.main([*common, "--arms", "do-conv"]) == 2
    said = capsys.readouterr().err
    assert "is of a run with d_mul '4MN', not d_mul 'MN': name another folder" in said


def test_the_variants_of_d_share_the_plain_runs(run):
    folder = run("--arms", "plain")
    before = found(folder, "plain")
    run("--arms", "plain", "--stages", "1")
    assert found(folder, "plain") == before


FULL = """
import resource, runpy, sys
from examples.cifar import data, schedules
kept = schedules.SCHEDULES
kept["short"] = schedules.Schedule(2, kept["short"].factor)
data.TRAIN = {"cifar100": {"train.bin": 256}}
data.TEST = {"cifar100": {"test.bin": 100}}
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
sys.argv[0] = "train"
runpy.run_module("examples.cifar.train", run_name="__main__")
"""


def test_exception_a_full_disk_leaves_the_checkpoint_before(run, tmp_path, monkeypatch):
    def interrupted(*_, flush):
        raise KeyboardInterrupt

    # After the first epoch is kept, before the next one is.
    monkeypatch.setattr(train, "print", interrupted, raising=False)
    with pytest.raises(KeyboardInterrupt):
        run("--arms", "do-conv")
    (checkpoint,) = (tmp_path / "results").glob("*.pt")
    before = checkpoint.read_bytes()
    options = ["--data", tmp_path / "data", "--out", tmp_path / "results", "--seeds", "0"]
    done = subprocess.run(
        [sys.executable, "-c", FULL, *map(str, options), "--arms", "do-conv", "--threads", "1"],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 2
    assert "an output path must be writable" in done.stderr
    assert "(File too large)" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert checkpoint.read_bytes() == before
    assert not list(checkpoint.parent.glob(".*"))


@pytest.mark.parametrize("broken", [b"no state", b""], ids=["other bytes", "empty"])
def test_exception_a_broken_state(run, capsys, tmp_path, broken):
    folder = run("--arms", "plain")
    file = folder / "cifar100-resnet_v2_20-plain-seed0.pt"
    file.write_bytes(broken)
    before = found(folder, "plain")
    options = ["--data", str(tmp_path / "data"), "--seeds", "0", "--arms", "plain"]
    assert train.main([*options, "--out", str(folder)]) == 2
    said = capsys.readouterr().err
    assert said == f"{file} cannot be read as the state of this run: remove it to begin anew\n"
    assert found(folder, "plain") == before


def test_exception_an_unknown_stage(capsys):
    with pytest.raises(SystemExit) as left:
        train.main(["--data", "data", "--stages", "1", "4"])
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert "argument --stages: invalid choice: 4 (choose from 0, 1, 2, 3)" in said


@pytest.mark.parametrize(
    ("name", "groups"),
    [("mobilenet_v2", [16 * 6] * 4 + [32 * 6] * 3 + [64 * 6] * 2), ("resnext_29", [8] * 9)],
)
def test_networks_with_depthwise_or_grouped_convolutions(name, groups):
    model = networks.network(name, 100).eval()
    wide = [one for one in model.modules() if getattr(one, "kernel_size", (1,))[0] == 3]
    assert [one.groups for one in wide] == [1, *groups]
    if name == "mobilenet_v2":  # each of the groups is a channel
        assert [one.in_channels for one in wide[1:]] == groups
    assert [one.stride[0] for one in wide] == [2, 1, 1, 1, 2, 1, 1, 2, 1, 1]
    # 29 layers on the way, with the first convolution and the classifier.
    assert 3 * (len(wide) - 1) + 2 == 29
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(model(x), do_conv.torch.convert(model)(x))


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnext_29"])
def test_a_run_of_a_grouped_network(run, name):
    results = run("--network", name, "--arms", "do-conv")
    assert found(results, "do-conv")[-1]["experiment"] == f"cifar100-{name}"


def test_exception_an_unknown_network(run, capsys, tmp_path):
    common = ["--data", str(tmp_path / "data"), "--out", str(tmp_path)]
    assert train.main([*common, "--network", "resnet_v2_21"]) == 2
    assert "no network 'resnet_v2_21'; there are plain_20" in capsys.readouterr().err
