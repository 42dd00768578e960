"""The sample checkpoints of the original authors' layers."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from do_conv import DOConvError, Window, checkpoints, convolve
from do_conv.checkpoints.formats import hdf5
from do_conv.core import layouts

FOLDER = Path(__file__).parents[1] / "data" / "authors"
SAMPLES = sorted(path.stem for path in FOLDER.glob("*.npz"))


@dataclass
class Sample:
    """One layer of theirs: its arrays under their names, arguments, an input and its output."""

    name: str
    state: dict
    config: dict
    x: np.ndarray
    y: np.ndarray

    @classmethod
    def load(cls, name):
        with np.load(FOLDER / f"{name}.npz") as stored:
            state = {
                key.removeprefix("state/"): stored[key]
                for key in stored
                if key.startswith("state/")
            }
            config = json.loads(str(stored["config"]))
            return cls(name, state, config, stored["x"], stored["y"])

    @property
    def kernel_size(self):
        return tuple(self.config["kernel_size"])

    def output(self, kernel, bias):
        """What a convolution with a kernel in the core's order gives for the input."""
        config = self.config
        window = Window(
            self.kernel_size,
            config.get("stride", config.get("strides")),
            config["padding"],
            config.get("dilation", config.get("dilation_rate")),
            config.get("padding_mode", "zeros"),
        )
        last = self.name.startswith("tf")
        x = (layouts.channels_first(self.x) if last else self.x).astype("float64")
        y = convolve(x, kernel, window, config["groups"], bias)
        return layouts.channels_last(y) if last else y

    def assert_same_output(self, found):
        np.testing.assert_allclose(found, self.y, rtol=0, atol=1e-6 * abs(self.y).max())


@pytest.fixture(params=SAMPLES)
def sample(request):
    return Sample.load(request.param)


@pytest.fixture
def load_sample():
    return Sample.load


@pytest.fixture(scope="session")
def hdf5_answers():
    """What one process answers that copies HDF5 files, for as long as it survives them."""
    asked = []
    answers = hdf5.copies(asked.pop() for _ in iter(int, 1))
    yield asked, answers
    answers.close()


@pytest.fixture
def one_reader(hdf5_answers, monkeypatch):
    """Let the same process copy every HDF5 file: starting one for each takes most of the time."""
    asked, answers = hdf5_answers

    def copies(pairs):
        for pair in pairs:
            asked.append(pair)
            yield next(answers)

    monkeypatch.setattr(hdf5, "SECONDS", 3.0)
    monkeypatch.setattr(hdf5, "copies", copies)


@pytest.fixture
def refused():
    """A function: the sentence with which a file is refused, and nothing is written."""
    return _refused


def _refused(folder, content, *, ending=".pt", command=checkpoints.fold, **options):
    """The sentence with which a file is refused; nothing is written."""
    source, target = folder / f"in{ending}", folder / f"out{ending}"
    if isinstance(content, bytes):
        source.write_bytes(content)
    elif ending == ".pt":
        import torch

        torch.save(content, source)
    else:
        np.savez(source, **content)
    before = source.read_bytes()
    with pytest.raises(DOConvError) as error:
        command(source, target, **options)
    assert [path.name for path in folder.iterdir()] == [source.name]
    assert source.read_bytes() == before
    said = str(error.value)
    assert "\n" not in said
    assert len(said.split("; ")) == 3
    return said
