"""The sample checkpoints of the original authors' layers."""

import json
import selectors
import struct
import subprocess
import sys
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


class Reader:
    """A process that copies one HDF5 file after the other, for as long as it survives them."""

    SERVE = """
import struct, sys
import h5py
from do_conv.checkpoints.formats import hdf5
sys.stdout.buffer.write(b"!")
sys.stdout.buffer.flush()
for line in sys.stdin:
    code, data = hdf5.answer(line.removesuffix("\\n"))
    sys.stdout.buffer.write(struct.pack("<BQ", code, len(data)) + data)
    sys.stdout.buffer.flush()
"""

    def __init__(self):
        self.child = None

    def clean_copy(self, path):
        if self.child is None:
            self.start()
        self.child.stdin.write(f"{path}\n".encode())
        self.child.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(self.child.stdout, selectors.EVENT_READ)
            ready = selector.select(3.0)
        head = self.child.stdout.read(9) if ready else b""
        if len(head) < 9:
            self.stop()
            raise ValueError("the HDF5 library fails on it, or does not come to its end")
        code, size = struct.unpack("<BQ", head)
        data = self.child.stdout.read(size)
        if code:
            raise ValueError(data.decode())
        return data

    def start(self):
        self.child = subprocess.Popen(
            [sys.executable, "-c", self.SERVE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self.child.stdout.read(1)

    def stop(self):
        if self.child is not None:
            self.child.kill()
            self.child.communicate()
        self.child = None


@pytest.fixture(scope="session")
def hdf5_reader():
    reader = Reader()
    yield reader
    reader.stop()


@pytest.fixture
def one_reader(hdf5_reader, monkeypatch):
    """Let the same process copy every HDF5 file: starting one for each takes most of the time."""
    monkeypatch.setattr(hdf5, "clean_copy", hdf5_reader.clean_copy)


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
    assert len(said.split("; ")) == (2 if said.startswith("unknown ") else 3)
    return said
