"""timm's train script with DO-Conv, on a small script that calls timm as timm's own does."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
if not (find_spec("timm") and find_spec("torchvision")):
    pytest.skip("timm is not installed: pip install 'do-conv[zoo]'", allow_module_level=True)

import timm

from do_conv import DOConvError
from do_conv.integrations.timm_train import main
from do_conv.torch import DOConv2d, convert, fold

SCRIPT = str(Path(__file__).parents[1] / "support" / "timm_script.py")
DOORS = ("layers", "optimizer")


def run(folder, *rest, door="layers", do_conv=True):
    """Run the script, and return what it has saved."""
    folder.mkdir(exist_ok=True)
    ours = ["--do-conv", "--do-conv-door", door] if do_conv else []
    main(["--script", SCRIPT, str(folder), *ours, *rest])
    name = "validated.pt" if "--checkpoint" in rest else "trained.pt"
    return torch.load(folder / name, weights_only=True)


def network():
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=4)


def loaded(folder, name="last.pth.tar", *, ema=False):
    """The network of a checkpoint."""
    model = convert(network())
    timm.models.load_checkpoint(model, folder / name, use_ema=ema)
    return model.eval()


def close(first, second):
    torch.testing.assert_close(first, second, rtol=0, atol=1e-4)


def test_both_doors_train_alike_and_not_as_a_plain_network(tmp_path):
    layers, optimizer = (run(tmp_path / door, door=door) for door in DOORS)
    plain = run(tmp_path / "plain", do_conv=False)
    close(layers["outputs"], optimizer["outputs"])
    assert (layers["outputs"] - plain["outputs"]).abs().max() > 1e-3
    assert type(loaded(tmp_path / "layers").conv1[0]) is DOConv2d
    saved = torch.load(tmp_path / "optimizer" / "last.pth.tar", weights_only=False)
    assert saved["state_dict"].keys() == network().state_dict().keys()


@pytest.mark.parametrize("door", DOORS)
def test_the_command_in_a_process_of_its_own(door, tmp_path):
    support = str(Path(SCRIPT).parent)
    command = (
        f"import sys; sys.path.append({support!r}); import cpu_torchvision; "
        "from do_conv.integrations.timm_train import main; main(sys.argv[1:])"
    )
    its = ["--script", SCRIPT, str(tmp_path), "--do-conv", "--do-conv-door", door, "--epochs", "1"]
    subprocess.run([sys.executable, "-W", "ignore", "-c", command, *its], check=True)
    saved = torch.load(tmp_path / "trained.pt", weights_only=True)
    assert torch.equal(
        saved["outputs"], run(tmp_path / "here", "--epochs", "1", door=door)["outputs"]
    )


def test_where_chooses_layers(tmp_path):
    run(tmp_path, "--do-conv-where", r"^conv1\.0", "--epochs", "1")
    saved = torch.load(tmp_path / "last.pth.tar", weights_only=False)["state_dict"]
    assert [name for name in saved if "delta" in name] == ["conv1.0.depthwise_delta"]


@pytest.mark.parametrize("door", DOORS)
def test_resuming_is_exact(door, tmp_path):
    whole = run(tmp_path / "whole", "--epochs", "3", door=door)
    half = str(tmp_path / "whole" / "checkpoint-1.pth.tar")
    resumed = run(tmp_path / "resumed", "--epochs", "3", "--resume", half, door=door)
    first, second = (
        torch.load(tmp_path / folder / "checkpoint-2.pth.tar", weights_only=False)
        for folder in ("whole", "resumed")
    )
    for name in ("state_dict", "state_dict_ema", "optimizer"):
        torch.testing.assert_close(second[name], first[name], rtol=0, atol=0)
    assert torch.equal(whole["outputs"], resumed["outputs"])


def test_averages_hold_both_kernels(tmp_path):
    run(tmp_path)
    average, last = loaded(tmp_path, ema=True), loaded(tmp_path)
    delta, other = (model.conv1[0].depthwise_delta for model in (average, last))
    assert 0 < delta.norm() < other.norm()


@pytest.mark.parametrize("ema", [[], ["--use-ema"]])
def test_a_reparameterized_network_is_the_folded_one(ema, tmp_path):
    run(tmp_path)
    checkpoint = ["--checkpoint", str(tmp_path / "last.pth.tar"), *ema]
    folded = run(tmp_path, *checkpoint, "--reparam")
    unfolded = run(tmp_path, *checkpoint)
    assert "DOConv2d" in unfolded["kinds"]
    assert "DOConv2d" not in folded["kinds"]
    assert torch.equal(folded["outputs"], unfolded["outputs"])


def test_adaptive_clipping_judges_the_depthwise_kernel_with_its_identity(tmp_path):
    run(tmp_path, "--clip-grad", "0.01", "--clip-mode", "agc", "--epochs", "1")
    delta = loaded(tmp_path).conv1[0].depthwise_delta
    # Judged by its own norm, which is zero at first, its steps would be no longer than the rate
    # times 1e-5.
    assert delta.flatten(1).norm(dim=1).max() > 1e-4


@pytest.mark.parametrize("door", DOORS)
def test_layer_decay_treats_a_depthwise_kernel_as_its_layer(door, tmp_path):
    groups = run(tmp_path, "--layer-decay", "0.5", "--epochs", "1", door=door)["groups"]
    expected = timm.optim.param_groups_layer_decay(network(), 1e-2, layer_decay=0.5)
    assert {scale for scale, _ in groups} == {group["lr_scale"] for group in expected}
    count = sum(size for _, size in groups) - len(list(network().parameters()))
    deltas = [p for name, p in convert(network()).named_parameters() if "delta" in name]
    assert count == (len(deltas) if door == "layers" else 0)


def test_an_initial_checkpoint_may_be_plain_or_have_depthwise_kernels(tmp_path):
    run(tmp_path / "first")
    torch.save(fold(loaded(tmp_path / "first", ema=True)).state_dict(), tmp_path / "plain.pth")
    both = [str(tmp_path / "first" / "last.pth.tar"), str(tmp_path / "plain.pth")]
    first, second = (
        run(tmp_path / str(i), "--initial-checkpoint", path, "--epochs", "0")
        for i, path in enumerate(both)
    )
    torch.testing.assert_close(first["outputs"], second["outputs"], rtol=0, atol=1e-6)
    # timm takes the averages of a checkpoint that has them.
    assert torch.equal(first["outputs"], loaded(tmp_path / "first", ema=True)(images()))


def images():
    return torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_nothing_of_timm_stays_replaced(tmp_path):
    before = timm.models.create_model, timm.optim.create_optimizer_v2, timm.create_model
    with pytest.raises(DOConvError, match="must be at least the number of kernel positions, 9"):
        run(tmp_path, "--do-conv-d-mul", "2")
    assert before == (timm.models.create_model, timm.optim.create_optimizer_v2, timm.create_model)


def test_without_the_script_there_is_a_clear_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DOConvError, match=r"--script must be timm's train\.py.*give its path"):
        main(["--model", "resnet18", "--do-conv"])
