"""The neutral file: its definition, and PyTorch's state dicts in it."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from torch import nn

from do_conv import DOConvError, checkpoints
from do_conv.checkpoints import neutral
from do_conv.checkpoints.neutral import Description
from do_conv.checkpoints.neutral.torch import from_state_dict, to_state_dict
from do_conv.torch import (
    DepthwiseSeparableConv2d,
    DOConv2d,
    DOConvTranspose2d,
    folded_state_dict,
    over_parameterize,
)


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        DOConv2d(4, 6, 3, groups=2, depthwise_init="he"),
        nn.BatchNorm2d(6),
        DOConvTranspose2d(6, 4, (2, 3), groups=2, d_mul=7, depthwise_init="he"),
        DepthwiseSeparableConv2d(4, 6, 3, groups=2, d_mul=3),
        nn.Conv2d(6, 4, 3, groups=2).bfloat16(),
    )


DESCRIBED = {
    "0": Description("convolution", (3, 3), 2, 9),
    "2": Description("transposed", (2, 3), 2, 7),
    "3": Description("separable", (3, 3), 2, 3),
    "4": Description("convolution", (3, 3), 2),
}


def write(path, model=None):
    state = (model or network()).state_dict()
    held = from_state_dict(state, transposed=["2"], plain={"4": 2})
    neutral.write(path, held)
    return state, held


def test_the_layers_are_described():
    state = network().state_dict()
    assert from_state_dict(state, transposed=["2"], plain={"4": 2}).layers == DESCRIBED


def test_a_state_dict_comes_back_with_every_bit(tmp_path):
    state, _ = write(tmp_path / "a.safetensors")
    again = neutral.read(tmp_path / "a.safetensors")
    assert again.layers == DESCRIBED
    found = to_state_dict(again)
    assert list(found) == list(state)
    for name, tensor in state.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def test_the_metadata_is_as_the_documentation_says(tmp_path):
    write(tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", "np") as file:
        metadata = file.metadata()
    assert metadata.keys() == {"format", "version", "layers"}
    assert (metadata["format"], metadata["version"]) == ("do_conv", "1")
    assert json.loads(metadata["layers"])["2"] == {
        "kind": "transposed", "kernel_size": [2, 3], "groups": 2, "d_mul": 7,
    }  # fmt: skip


def test_a_file_that_others_write(tmp_path):
    """The definition is all one needs."""
    arrays = {
        "a.weight": np.ones((6, 2, 3, 3), "float32"),
        "a.depthwise_delta": np.ones((4, 9, 3, 3), "float32"),
        "a.bias": np.ones(6, "float16"),
    }
    table = {"a": {"kind": "convolution", "kernel_size": [3, 3], "groups": 2, "d_mul": 9}}
    metadata = {"format": "do_conv", "version": "1", "layers": json.dumps(table)}
    save_file(arrays, tmp_path / "a.safetensors", metadata)
    held = neutral.read(tmp_path / "a.safetensors")
    assert held.layers == {"a": DESCRIBED["0"]}
    found = held.arrays("a")
    assert {name: array.dtype for name, array in found.items()} == {
        "weight": np.float32, "depthwise_delta": np.float32, "bias": np.float32,
    }  # fmt: skip
    np.testing.assert_array_equal(found["depthwise_delta"], arrays["a.depthwise_delta"])


def test_folding_a_neutral_file_describes_the_plain_layers(tmp_path):
    write(tmp_path / "a.safetensors")
    checkpoints.fold(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    folded = neutral.read(tmp_path / "b.safetensors")
    assert folded.layers == {
        "0": Description("convolution", (3, 3), 2),
        "2": Description("transposed", (2, 3), 2),
        "3.depthwise": Description("convolution", (3, 3), 4),
        "3.pointwise": Description("convolution", (1, 1), 2),
        "4": Description("convolution", (3, 3), 2),
    }
    expected, found = folded_state_dict(network()), to_state_dict(folded)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-6, atol=1e-6)


def test_a_bare_layer_and_a_parametrized_one():
    bare = from_state_dict(DOConv2d(4, 6, 3).state_dict())
    assert bare.layers == {"": Description("convolution", (3, 3), 1, 9)}
    assert set(bare.arrays("")) == {"weight", "depthwise_delta", "bias"}
    parametrized = from_state_dict(over_parameterize(nn.Conv2d(4, 6, 3)).state_dict())
    assert set(parametrized.tensors) == {"weight", "depthwise_delta", "bias"}
    assert parametrized.layers == bare.layers


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        (None, "with no metadata;"),
        ({"format": "pt"}, "with format 'pt' and version None;"),
        ({"format": "do_conv", "version": "2"}, "with format 'do_conv' and version '2';"),
        ({"format": "do_conv", "version": "1"}, "layers that are not such a description;"),
        ({"layers": "["}, "layers that are not such a description;"),
        ({"layers": "[]"}, "layers that are not such a description;"),
        ({"layers": '{"a": {"kind": "convolution"}}'}, "layers that are not such a description;"),
        ({"kind": "linear"}, "layers that are not such a description;"),
        ({"kernel_size": [3, 5]}, "layer 'a' with weight (6, 4, 3, 3), depthwise_delta"),
        ({"groups": 2}, "layer 'a' with weight (6, 4, 3, 3), depthwise_delta"),
        ({"d_mul": None}, "must be ['weight']; received ['depthwise_delta', 'weight'];"),
        ({"kind": "separable"}, "must be ['depthwise_weight', 'weight']; received"),
    ],
)
def test_a_file_that_is_not_a_neutral_one(metadata, said, tmp_path):
    arrays = {
        "a.weight": np.ones((6, 4, 3, 3), "float32"),
        "a.depthwise_delta": np.ones((4, 9, 3, 3), "float32"),
    }
    if metadata is not None and "format" not in metadata:
        one = {"kind": "convolution", "kernel_size": [3, 3], "groups": 1, "d_mul": 9}
        layers = metadata.get("layers", json.dumps({"a": {**one, **metadata}}))
        metadata = {"format": "do_conv", "version": "1", "layers": layers}
    save_file(arrays, tmp_path / "a.safetensors", metadata)
    with pytest.raises(DOConvError) as refused:
        neutral.read(tmp_path / "a.safetensors")
    assert said in str(refused.value)


def test_nothing_is_written_of_what_does_not_fit(tmp_path):
    _, held = write(tmp_path / "a.safetensors")
    held.layers["0"] = Description("convolution", (3, 3), 1, 9)
    with pytest.raises(DOConvError, match="must fit each other; received layer '0'"):
        neutral.write(tmp_path / "b.safetensors", held)
    assert not (tmp_path / "b.safetensors").exists()
