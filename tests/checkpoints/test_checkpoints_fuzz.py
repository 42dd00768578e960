"""Randomly damaged files: each is refused and nothing is written, or it was still a whole file."""

import random
import struct

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import save

from do_conv import DOConvError, checkpoints
from do_conv.torch import DOConv2d

RNG = np.random.default_rng(0)
STATE = {
    "conv.weight": RNG.standard_normal((4, 2, 2)).astype("float32"),
    "conv.depthwise_delta": RNG.standard_normal((2, 2, 2)).astype("float32"),
    "conv.bias": RNG.standard_normal(4).astype("float32"),
    "norm.count": np.array([7]),
}
FILES = 1200
FEWER = 500


def pytorch(path, **options):
    content = {"epoch": 3, "model": {k: torch.from_numpy(v) for k, v in STATE.items()}}
    torch.save(content, path, **options)


def older_pytorch(path):
    pytorch(path, _use_new_zipfile_serialization=False)


def safetensors(path):
    path.write_bytes(save({k: torch.from_numpy(v) for k, v in STATE.items()}, {"format": "pt"}))


def keras(path):
    with h5py.File(path, "w") as file:
        group = file.create_group("layers/do_conv1d/vars")
        group.attrs["name"] = "conv"
        group["0"] = STATE["conv.weight"].transpose(2, 1, 0)
        group["1"] = STATE["conv.bias"]
        group["depthwise_delta"] = STATE["conv.depthwise_delta"].transpose(2, 0, 1)
        file.create_dataset("more", data=np.ones((9, 9)), chunks=(3, 3), compression="gzip")


def gluon(path):
    """As MXNet writes it, in each of its versions of an array."""
    numbers = {np.dtype("float32"): 0, np.dtype("int64"): 6}
    data = struct.pack("<QQQ", 0x112, 0, len(STATE))
    for magic, array in zip((0xF993FAC9, 0xF993FACA, 0xF993FAC8, 1), STATE.values(), strict=True):
        sizes = array.shape
        head = {
            0xF993FAC8: struct.pack(f"<I{len(sizes)}q", len(sizes), *sizes),
            1: struct.pack("<I", *sizes[:1]),
        }.get(magic, struct.pack(f"<ii{len(sizes)}q", 0, len(sizes), *sizes))
        data += struct.pack("<I", magic) + head + struct.pack("<iii", 1, 0, numbers[array.dtype])
        data += array.tobytes()
    data += struct.pack("<Q", len(STATE))
    for name in STATE:
        data += struct.pack("<Q", len(name)) + name.encode()
    path.write_bytes(data)


FORMATS = {
    "torch": (pytorch, ".pt", FILES),
    "older-torch": (older_pytorch, ".pth", FILES),
    "safetensors": (safetensors, ".safetensors", FILES),
    "gluon": (gluon, ".params", FILES),
    "keras": (keras, ".weights.h5", FEWER),
}


# A tensor that can be read and not written.
MORE = {"older-torch": (5318,)}


def damaged(data, seed):
    """The bytes with some of them changed, lost or added."""
    draw, data = random.Random(seed), bytearray(data)
    kind, place = seed % 5, draw.randrange(len(data))
    if kind == 0:
        for _ in range(draw.choice([1, 2, 8])):
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    elif kind == 1:
        del data[place:]
    elif kind == 2:
        data[place:place] = draw.randbytes(draw.randrange(1, 20))
    elif kind == 3:
        del data[place : place + draw.randrange(1, 20)]
    else:
        number = draw.choice([b"\xff" * 8, b"\0" * 8, b"\xff" * 7 + b"\x7f", draw.randbytes(8)])
        data[place : place + 8] = number
    return bytes(data)


def refusal(source, target):
    """The sentence with which a file is refused, or None."""
    try:
        checkpoints.fold(source, target)
        return None
    except DOConvError as error:
        return str(error)


@pytest.mark.usefixtures("one_reader")
@pytest.mark.parametrize("name", FORMATS)
def test_damaged_files(name, tmp_path):
    make, ending, files = FORMATS[name]
    source, target = tmp_path / f"in{ending}", tmp_path / f"out{ending}"
    make(source)
    whole = source.read_bytes()
    assert checkpoints.fold(source, target).layers
    target.unlink()
    survived = 0
    for seed in (*range(files), *MORE.get(name, ())):
        source.write_bytes(damaged(whole, seed))
        if refusal(source, target) is None:
            survived += 1
            target.unlink()
        assert [path.name for path in tmp_path.iterdir()] == [source.name], seed
    # Most damage is seen; what is not has changed a number alone.
    assert survived < files / 2


def test_damaged_neutral_files_change_no_model(tmp_path):
    """What is refused leaves the model as it was; damage is mostly done to the description."""
    path = tmp_path / "in.safetensors"
    model = torch.nn.Sequential(DOConv2d(2, 4, 2), torch.nn.BatchNorm2d(4))
    checkpoints.save(model, path)
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    refused = 0
    for seed in range(FILES):
        model[0].weight.data.fill_(seed)
        path.write_bytes(damaged(whole[:header], seed) + whole[header:])
        try:
            checkpoints.load(model, path)
        except DOConvError:
            refused += 1
            assert (model[0].weight == seed).all(), seed
    assert refused > FILES / 2
