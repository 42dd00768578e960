"""Folding safetensors files: other tensors keep their bytes, and the metadata stays."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from do_conv import checkpoints
from do_conv.checkpoints.formats.bfloat16 import narrowed, widened
from do_conv.torch import DepthwiseSeparableConv2d, DOConv2d, folded_state_dict

OTHERS = {
    "f64": torch.float64,
    "f16": torch.float16,
    "bf16": torch.bfloat16,
    "f8": torch.float8_e4m3fn,
    "i64": torch.int64,
    "u8": torch.uint8,
    "bool": torch.bool,
}


def folded_file(state, folder, metadata=None):
    save_file(state, folder / "in.safetensors", metadata)
    report = checkpoints.fold(folder / "in.safetensors", folder / "out.safetensors")
    return load_file(folder / "out.safetensors"), report


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-12), (torch.float32, 1e-6), (torch.float16, 1e-3), (torch.bfloat16, 1e-2)],
)
def test_layers_of_every_dtype(dtype, tolerance, tmp_path):
    torch.manual_seed(0)
    layer = DOConv2d(4, 6, 3, groups=2, d_mul=11, depthwise_init="he").to(dtype)
    found, _ = folded_file(layer.state_dict(), tmp_path)
    assert found["weight"].dtype == dtype
    expected = folded_state_dict(layer.double())["weight"]
    torch.testing.assert_close(found["weight"].double(), expected, rtol=tolerance, atol=tolerance)


def test_a_separable_pair(tmp_path):
    layer = DepthwiseSeparableConv2d(4, 6, 3, groups=2, d_mul=3)
    found, _ = folded_file({f"a.{k}": v for k, v in layer.state_dict().items()}, tmp_path)
    expected = folded_state_dict(layer)
    assert found.keys() == {f"a.{name}" for name in expected}
    assert all(torch.equal(found[f"a.{name}"], tensor) for name, tensor in expected.items())


def test_other_tensors_keep_every_bit_and_the_metadata_stays(tmp_path):
    bits = torch.arange(48, dtype=torch.uint8)
    others = {
        name: bits.bool() if dtype == torch.bool else bits.clone().view(dtype)
        for name, dtype in OTHERS.items()
    }
    metadata = {"format": "pt", "author": "a person"}
    state = {**others, "empty": torch.empty(0, 3), **DOConv2d(4, 6, 3).state_dict()}
    found, report = folded_file(state, tmp_path, metadata)
    assert report.passed == len(others) + 1
    assert found["empty"].shape == (0, 3)
    for name, tensor in others.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name].view(torch.uint8), tensor.view(torch.uint8))
    with safe_open(tmp_path / "out.safetensors", "pt") as file:
        assert file.metadata() == metadata


def test_the_header_is_in_whole_words_and_in_order(tmp_path):
    folded_file({"b": torch.ones(1), **DOConv2d(4, 6, 3).state_dict()}, tmp_path)
    data = (tmp_path / "out.safetensors").read_bytes()
    size = int.from_bytes(data[:8], "little")
    assert size % 8 == 0
    assert json.loads(data[8 : 8 + size])["b"]["dtype"] == "F32"


def test_bfloat16_is_rounded_as_pytorch_rounds_it():
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 100_000, dtype=np.uint64).astype(np.uint32)
    special = np.array([0x3F808000, 0x3F818000, 0x7F7FFFFF, 0x7F800001, 0xFF800000], np.uint32)
    numbers = np.concatenate([bits, special]).view(np.float32)
    expected = torch.from_numpy(numbers).bfloat16()
    found = torch.from_numpy(narrowed(numbers).view(np.int16)).view(torch.bfloat16)
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
    again = torch.from_numpy(widened(narrowed(numbers)))
    torch.testing.assert_close(again, expected.float(), rtol=0, atol=0, equal_nan=True)
