"""A pretrained network: converted, fine-tuned, folded, and folded from its file."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from do_conv import checkpoints
from do_conv.torch import convert, fold, plan, verify
from examples.cifar import networks

DATA = Path(__file__).parents[1] / "data" / "pretrained"


@pytest.fixture(scope="module")
def checkpoint():
    return torch.load(DATA / "cifar10-resnet20.th", map_location="cpu", weights_only=True)


@pytest.fixture
def plain(checkpoint):
    model = nn.Sequential()
    model.module = networks.network("resnet_v1_20", 10)  # whose keys begin with `module.`
    model.load_state_dict(checkpoint["state_dict"])
    return model.eval()


@pytest.fixture(scope="module")
def images():
    stored = np.load(DATA / "cifar10_images.npz")
    mean, deviation = (
        torch.tensor(values).reshape(3, 1, 1)
        for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    scaled = torch.from_numpy(stored["images"]).float() / 255
    return (scaled - mean) / deviation, torch.from_numpy(stored["classes"]).long()


def right(model, images):
    with torch.no_grad():
        return (model(images[0]).argmax(1) == images[1]).float().mean().item()


def fine_tune(model, images):
    """A few steps on the images; normalisations stay as they are."""
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9)
    losses = []
    for _ in range(5):
        loss = nn.functional.cross_entropy(model(images[0][:64]), images[1][:64])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_converted_fine_tuned_and_folded(plain, images):
    assert right(plain, images) > 0.9
    model = convert(plain)
    assert verify(plain, model, images[0], tolerance=0) == 0
    assert len(plan(plain).converted) == 19
    losses = fine_tune(model, images)
    assert losses[-1] < losses[0]
    deltas = [p for name, p in model.named_parameters() if name.endswith("depthwise_delta")]
    assert all(delta.any() for delta in deltas)
    folded = fold(model)
    assert verify(model, folded, images[0], tolerance=0) == 0
    assert str(folded) == str(plain)
    assert right(folded, images) > 0.9
    # A second stage of training begins where the first one ended.
    assert verify(folded, convert(folded), images[0], tolerance=0) == 0


def test_folded_from_its_file(plain, checkpoint, images, tmp_path):
    """The keys begin with `module.`, and what else is in the file goes through."""
    model = convert(plain)
    fine_tune(model, images)
    whole = {**checkpoint, "state_dict": model.state_dict()}
    torch.save(whole, tmp_path / "trained.pth")
    report = checkpoints.fold(tmp_path / "trained.pth", tmp_path / "plain.pth")
    assert len(report.layers) == 19
    folded = torch.load(tmp_path / "plain.pth", weights_only=True)
    assert folded["best_prec1"] == checkpoint["best_prec1"]
    assert list(folded["state_dict"]) == list(plain.state_dict())
    plain.load_state_dict(folded["state_dict"])
    assert verify(model, plain, images[0]) < 1e-6
