"""The classification recipe, and what all recipes share, on a few images that the tests make."""

import json

import tiny_recipes  # isort: skip  # before torchvision
import pytest
import torch

from do_conv.torch import convert
from examples import states
from examples.recipes import classification, training
from examples.recipes.networks import imagenet
from examples.report import runs as report_runs

OPTIMIZER = ["--door", "optimizer"]
SMALL = ["--classes", "3", "--size", "32", "--batch", "4", "--workers", "0", "--device", "cpu"]


@pytest.fixture
def run(image_folder, tmp_path):
    """A run of two epochs, and the folder that it leaves."""

    def call(*options, out="results", network="tiny", code=0):
        common = ["--data", str(image_folder), "--network", network, "--epochs", "2", *SMALL]
        given = [*common, "--out", str(tmp_path / out), *options]
        assert training.main(classification.Classification(), given) == code
        return tmp_path / out

    return call


@pytest.fixture
def made(image_folder, tmp_path):
    """A run that is made, and not begun."""

    def call(*options):
        common = ["--data", str(image_folder), "--network", "tiny", "--epochs", "2", *SMALL]
        recipe = classification.Classification()
        out = tmp_path / f"made {len(list(tmp_path.iterdir()))}"
        given = training.options.parsed(recipe, [*common, "--out", str(out), *options])
        return training.Training(recipe, given, torch.device("cpu"))

    return call


def channels_last(model):
    """In the order of axes that the recipes have: another one adds in another order."""
    return model.to(memory_format=torch.channels_last)


def lines(folder, name="imagenet-tiny", arm="do-conv"):
    text = (folder / f"{name}-{arm}-seed0.jsonl").read_text()
    return [
        {k: v for k, v in json.loads(one).items() if k != "seconds"} for one in text.splitlines()
    ]


def weights(folder, name="imagenet-tiny", arm="do-conv"):
    return torch.load(folder / f"{name}-{arm}-seed0.plain.pt", weights_only=True)


def same(first, second, tolerance=0.0):
    assert first.keys() == second.keys()
    return all((first[k] - second[k]).abs().max() <= tolerance for k in first)


def test_both_arms_of_a_network_of_the_paper(run, capsys):
    for arm in ("plain", "do-conv"):
        folder = run("--arm", arm, "--epochs", "1", network="resnet_v1_18")
    name = "imagenet-ResNet-v1-18"
    (plain,), (ours,) = (lines(folder, name, arm) for arm in ("plain", "do-conv"))
    assert {k: ours[k] for k in ("experiment", "arm", "seed", "epoch")} == {
        "experiment": name, "arm": "do-conv", "seed": 0, "epoch": 1,
    }  # fmt: skip
    assert 0 <= ours["accuracy"] <= ours["top5"] == 100
    # From one start on the same images: what differs is what D does after some steps.
    assert plain["loss"] == pytest.approx(ours["loss"], rel=0.2)
    assert plain["loss"] != ours["loss"]
    network = imagenet.NETWORKS["resnet_v1_18"](3)
    for arm in ("plain", "do-conv"):
        network.load_state_dict(weights(folder, name, arm))  # with no D in it
    assert not (folder / f"{name}-do-conv-seed0.pt").exists()
    said = capsys.readouterr().out
    assert "epoch 1 of 1, loss" in said
    assert "accuracy is top-1 accuracy in %" in said
    header = json.loads((folder / f"{name}-do-conv-seed0.json").read_text())
    assert header["settings"]["images"] == 12
    assert "torchvision" in header["places"][0]["versions"]


def test_it_learns_what_can_be_learnt(run):
    options = ["--epochs", "25", "--rate", "0.1", "--size", "16", "--no-decay-of-norms"]
    found = lines(run(*options))
    assert found[-1]["accuracy"] > 80
    assert found[-1]["loss"] < 0.8 * found[0]["loss"]


@pytest.mark.parametrize("options", [[], ["--mixup", "0.2", "--jitter", "0.4"], OPTIMIZER])
def test_a_run_that_was_interrupted_ends_as_one_that_was_not(run, options):
    name = "imagenet-tiny-optimizer" if options is OPTIMIZER else "imagenet-tiny"
    options = ["--label-smoothing", "0.1", *options]
    whole = run(*options, out="at once")
    tiny_recipes.interrupted(lambda: run(*options))
    folder = run(*options)
    assert lines(folder, name) == lines(whole, name)
    assert same(weights(folder, name), weights(whole, name))
    run(*options)  # which has ended
    assert lines(folder, name) == lines(whole, name)
    other = run(*options, "--rate", "0.2", out="other")
    assert not same(weights(folder, name), weights(other, name))


@pytest.mark.parametrize("options", [[], ["--where", "conv2"], ["--precision", "bfloat16"]])
def test_both_doors_are_the_same_training(run, options):
    options = ["--rate", "0.1", "--no-decay-of-norms", *options]
    layers, optimizer = run(*options, out="a"), run(*options, *OPTIMIZER, out="b")
    name = "imagenet-tiny-optimizer"
    # In bfloat16 a rounding of the weights' last bits is one of the activations.
    tolerance = 1e-3 if "bfloat16" in options else 1e-5
    assert same(weights(layers), weights(optimizer, name), tolerance)
    for one, other in zip(lines(layers), lines(optimizer, name), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=10 * tolerance)
    for folder, file in ((layers, "imagenet-tiny"), (optimizer, name)):
        header = json.loads((folder / f"{file}-do-conv-seed0.json").read_text())
        assert header["settings"]["door"] == ("layers" if folder is layers else "optimizer")
    plain = run(*options, "--arm", "plain", *OPTIMIZER, out="c")
    assert not same(weights(plain, arm="plain"), weights(optimizer, name), tolerance)
    header = json.loads((plain / "imagenet-tiny-plain-seed0.json").read_text())
    assert "door" not in header["settings"]


def test_workers_read_the_same_images(run):
    assert lines(run("--workers", "1", "--epochs", "1", out="a")) == lines(
        run("--epochs", "1", out="b")
    )


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(run, monkeypatch, capsys):
    whole = run(out="at once")
    save, calls = states.save, []

    def fail(content, path):
        calls.append(1)
        if len(calls) == 2:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        save(content, path)

    with monkeypatch.context() as patched:
        patched.setattr(states, "save", fail)
        folder = run(code=2)
    said = capsys.readouterr().err
    assert "seed0.pt (No space left on device)" in said
    assert said.count("\n") == 1
    assert torch.load(folder / "imagenet-tiny-do-conv-seed0.pt", weights_only=True)["epoch"] == 1
    assert not list(folder.glob(".*"))
    assert same(weights(run()), weights(whole))
    assert lines(folder) == lines(whole)


def test_mixed_precision(run):
    full, half = (
        lines(run("--precision", one, "--epochs", "1", out=one))[0]["loss"]
        for one in ("float32", "bfloat16")
    )
    assert half != full
    assert half == pytest.approx(full, rel=0.02)


def test_weights_go_from_either_arm_to_either_arm(run, made):
    x, trained = torch.randn(2, 3, 32, 32), channels_last(tiny_recipes.Tiny(3))
    for before in ("plain", "do-conv"):
        folder = run("--rate", "0.1", "--arm", before)
        file = folder / f"imagenet-tiny-{before}-seed0.plain.pt"
        trained.load_state_dict(torch.load(file, weights_only=True))
        for arm in ("plain", "do-conv"):
            after = made("--pretrained", str(file), "--pretrained-arm", before, "--arm", arm)
            assert torch.equal(after.model(x), trained(x))
            assert after.name == f"imagenet-tiny-from-{before}"


def test_weights_that_hold_a_d_are_folded(run, made, tmp_path):
    tiny_recipes.interrupted(lambda: run("--rate", "0.1"))  # of which one epoch is kept
    file = tmp_path / "results" / "imagenet-tiny-do-conv-seed0.pt"
    state = torch.load(file, weights_only=True)["model"]
    assert state["conv2.depthwise_delta"].abs().max() > 0
    trained = convert(tiny_recipes.Tiny(3))
    trained.load_state_dict(state)
    after = made("--pretrained", str(file), "--arm", "plain")
    assert after.name == "imagenet-tiny-from-do-conv"
    x = torch.randn(2, 3, 32, 32)
    assert torch.allclose(after.model(x), trained(x), atol=1e-6)
    assert not any("delta" in name for name in after.model.state_dict())
    # It is part of what makes a run.
    folder = run("--pretrained", str(file), "--arm", "plain", "--epochs", "1")
    header = json.loads((folder / "imagenet-tiny-from-do-conv-plain-seed0.json").read_text())
    assert len(header["settings"]["pretrained"]) == 16


def test_weights_of_a_network_with_d_in_its_optimizer_are_of_do_conv(run, made, tmp_path):
    tiny_recipes.interrupted(lambda: run(*OPTIMIZER))
    file = tmp_path / "results" / "imagenet-tiny-optimizer-do-conv-seed0.pt"
    trained = channels_last(tiny_recipes.Tiny(3))
    trained.load_state_dict(torch.load(file, weights_only=True)["model"])
    after = made("--pretrained", str(file), "--arm", "plain")
    assert after.name == "imagenet-tiny-from-do-conv"
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(after.model(x), trained(x))


def test_weights_of_another_number_of_classes_keep_their_layers(made, tmp_path):
    before = channels_last(tiny_recipes.Tiny(1000))
    torch.save(before.state_dict(), tmp_path / "before.pt")
    model = made("--pretrained", str(tmp_path / "before.pt")).model
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(model.features(x), before.features(x))


def test_norms_and_biases_without_decay(made):
    for options, decays in (([], {1e-4: 8}), (["--no-decay-of-norms"], {0.0: 3, 1e-4: 5})):
        groups = made(*options)._optimizer.param_groups
        assert {one["weight_decay"]: len(one["params"]) for one in groups} == decays


def test_where_chooses_the_layers(made):
    names = [name for name, _ in made("--where", "conv2").model.named_parameters()]
    assert [name for name in names if "delta" in name] == ["conv2.depthwise_delta"]


def test_tables_6_and_7_are_options(made):
    network = ["--network", "resnet_v1_18", "--stages", "1", "3", "--depthwise-init", "he"]
    training_of = made(*network)
    assert training_of.name == "imagenet-ResNet-v1-18-stages13-he"
    deltas = {n: p for n, p in training_of.model.named_parameters() if "delta" in n}
    assert {name.split(".")[0] for name in deltas} == {"layer1", "layer3"}
    assert all(delta.abs().max() > 0.1 for delta in deltas.values())
    plain = made(*network, "--arm", "plain")
    assert plain.name == "imagenet-ResNet-v1-18"
    both = made(*network, "--where", r"\.1\.").model
    chosen = [name for name, _ in both.named_parameters() if "delta" in name]
    assert {tuple(name.split(".")[:2]) for name in chosen} == {("layer1", "1"), ("layer3", "1")}


def test_the_plain_runs_are_those_of_every_variant_of_d(run):
    options = ["--epochs", "1", "--stages", "0", "--depthwise-init", "he"]
    run(*options)
    folder = run(*options, "--arm", "plain")
    before = lines(folder, arm="plain")
    run("--epochs", "1", "--arm", "plain")  # which has ended
    assert lines(folder, arm="plain") == before
    found = report_runs.load(folder)
    assert report_runs.compare(found["imagenet-tiny-stages0-he"]).seeds == 1
