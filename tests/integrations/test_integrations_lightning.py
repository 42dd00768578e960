"""PyTorch Lightning: converting, the folded weights beside checkpoints, resuming, and DDP."""

import os
import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("torch")
with warnings.catch_warnings():  # those of its own imports
    warnings.simplefilter("ignore")
    pl = pytest.importorskip(
        "pytorch_lightning", reason="PyTorch Lightning is not installed: make test-integrations"
    )

import torch
from lightning_jobs import Lit, loader, trained
from torch import nn

from do_conv import DOConvError
from do_conv.integrations.lightning import DOConvCallback
from do_conv.torch import DOConv2d, DOConvOptimizer, convert, fold

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # its advice on loaders, loggers and folders
]
SUPPORT = Path(__file__).parents[1] / "support"
DOORS = ("layers", "optimizer")


def same(first, second):
    assert first.keys() == second.keys()
    return all(torch.equal(first[name], second[name]) for name in first)


def by_hand(module, epochs=2):
    """The same training, of the network alone."""
    optimizer = module.configure_optimizers()["optimizer"]
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    for _ in range(epochs):
        for batch in loader():
            optimizer.zero_grad()
            module.loss(batch).backward()
            optimizer.step()
        scheduler.step()
    return module


@pytest.mark.parametrize("door", DOORS)
def test_training_is_that_of_the_converted_network(door, tmp_path):
    module, _ = trained(tmp_path, DOConvCallback(door=door))
    expected = by_hand(convert(Lit()))
    assert (type(module.net[0]) is DOConv2d) == (door == "layers")
    plain = fold(module) if door == "layers" else module
    torch.testing.assert_close(plain.state_dict(), fold(expected).state_dict(), rtol=0, atol=1e-12)
    assert type(plain.net[0]) is nn.Conv2d
    assert not torch.allclose(plain.net[0].weight, by_hand(Lit()).net[0].weight, atol=1e-4)


def test_where_chooses_layers(tmp_path):
    module, _ = trained(tmp_path, DOConvCallback(where=r"net\.0"))
    assert [type(module.net[i]) for i in (0, 3)] == [DOConv2d, nn.Conv2d]


def test_folded_weights_are_beside_every_checkpoint(tmp_path):
    saving = pl.callbacks.ModelCheckpoint(tmp_path, monitor="loss", save_top_k=1, save_last=True)
    module, trainer = trained(tmp_path, DOConvCallback(), saving, epochs=3)
    files = {path.name for path in tmp_path.glob("*.ckpt")}
    best = Path(saving.best_model_path).name  # the ones before it are removed, with their folds
    assert files == {best, best.replace(".ckpt", ".folded.ckpt"), "last.ckpt", "last.folded.ckpt"}
    plain = Lit.load_from_checkpoint(tmp_path / "last.folded.ckpt")
    assert type(plain.net[0]) is nn.Conv2d
    assert plain.hparams.width == 6
    assert same(plain.state_dict(), fold(module).state_dict())
    trainer.save_checkpoint(tmp_path / "by-hand.ckpt", weights_only=True)
    plain = Lit.load_from_checkpoint(tmp_path / "by-hand.folded.ckpt")
    assert same(plain.state_dict(), fold(module).state_dict())


def test_no_folded_weights_are_written_unless_wanted(tmp_path):
    trained(tmp_path, DOConvCallback(save_folded=False), pl.callbacks.ModelCheckpoint(tmp_path))
    assert not list(tmp_path.glob("*.folded.ckpt"))


def test_averages_are_folded(tmp_path):
    averaging = pl.callbacks.EMAWeightAveraging(decay=0.5)
    trained(tmp_path, DOConvCallback(), averaging, pl.callbacks.ModelCheckpoint(tmp_path))
    (folded,) = tmp_path.glob("*.folded.ckpt")
    checkpoint = torch.load(tmp_path / folded.name.replace(".folded", ""), weights_only=False)
    average = convert(Lit())
    average.load_state_dict(checkpoint["state_dict"])
    assert not same(checkpoint["state_dict"], checkpoint["current_model_state"])
    saved = torch.load(folded, weights_only=True)
    assert same(saved["state_dict"], dict(fold(average).state_dict()))


@pytest.mark.parametrize("door", DOORS)
def test_resuming_is_exact(door, tmp_path):
    callback = {"door": door, "d_mul": 12, "depthwise_init": "he"}
    whole, _ = trained(tmp_path / "whole", DOConvCallback(**callback), epochs=4)
    saving = pl.callbacks.ModelCheckpoint(tmp_path, filename="half")
    trained(tmp_path, DOConvCallback(**callback), saving, epochs=2)
    resumed, trainer = trained(
        tmp_path, DOConvCallback(**callback), epochs=4, ckpt_path=tmp_path / "half.ckpt"
    )
    assert trainer.global_step == 4 * len(loader())
    assert same(whole.state_dict(), resumed.state_dict())


def test_an_optimizer_that_is_wrapped_already_stays(tmp_path):
    module = Lit()
    configure = module.configure_optimizers

    def wrapped():
        return DOConvOptimizer(configure()["optimizer"], module)

    module.configure_optimizers = wrapped
    _, trainer = trained(tmp_path, DOConvCallback(door="optimizer"), module=module)
    (optimizer,) = trainer.optimizers
    assert type(optimizer.optimizer) is torch.optim.SGD


def test_the_gradients_of_both_doors_are_clipped_alike(tmp_path):
    layers, _ = trained(tmp_path, DOConvCallback(), clip=0.1)
    plain, _ = trained(tmp_path, DOConvCallback(door="optimizer"), clip=0.1)
    unclipped, _ = trained(tmp_path, DOConvCallback(door="optimizer"))
    state = fold(layers).state_dict()
    torch.testing.assert_close(state, plain.state_dict(), rtol=0, atol=1e-12)
    assert not torch.allclose(state["net.0.weight"], unclipped.net[0].weight, atol=1e-6)


def test_a_module_is_tested_as_it_was_trained(tmp_path):
    saving = pl.callbacks.ModelCheckpoint(tmp_path, filename="end")
    module, trainer = trained(tmp_path, DOConvCallback(), saving)
    (before,) = trainer.test(module, loader(), verbose=False)
    (after,) = pl.Trainer(
        accelerator="cpu", logger=False, callbacks=[DOConvCallback()], enable_progress_bar=False
    ).test(Lit(), loader(), ckpt_path=tmp_path / "end.ckpt", verbose=False)
    (plain,) = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False).test(
        Lit(), loader(), ckpt_path=tmp_path / "end.folded.ckpt", verbose=False, weights_only=True
    )
    assert before == after == plain


def test_a_wrong_door_is_an_error():
    with pytest.raises(DOConvError, match="unknown door 'layer'; did you mean layers"):
        DOConvCallback(door="layer")


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("package", "strategy"),
    [
        ("pytorch_lightning", "ddp"),
        ("pytorch_lightning", "ddp_spawn"),
        ("pytorch_lightning", "model_parallel"),
        ("lightning.pytorch", "ddp"),
    ],
)
def test_two_processes_train_and_resume_as_one_trains(package, strategy, door, tmp_path):
    if find_spec(package.partition(".")[0]) is None:
        pytest.skip("the package lightning is not installed: make test-integrations")
    settings = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SUPPORT), *sys.path])}
    command = [sys.executable, str(SUPPORT / "lightning_jobs.py"), str(tmp_path), door, strategy]
    done = subprocess.run(
        command, env={**settings, "LIGHTNING_PACKAGE": package},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    name = "last.folded.ckpt" if door == "layers" else "last.ckpt"
    saved = torch.load(tmp_path / name, weights_only=False)["state_dict"]
    expected, _ = trained(tmp_path / "one", DOConvCallback())
    plain = dict(fold(expected).state_dict())
    torch.testing.assert_close(dict(saved), plain, rtol=0, atol=1e-12)
    if strategy == "ddp_spawn":  # the module of the first process is plain
        returned = torch.load(tmp_path / "returned.pt")
        torch.testing.assert_close(dict(returned), plain, rtol=0, atol=1e-12)
