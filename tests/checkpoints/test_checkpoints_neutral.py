"""The neutral file: its definition, what is refused, and folding one."""

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
from do_conv.torch import (
    DepthwiseSeparableConv2d,
    DOConv2d,
    DOConvTranspose2d,
    fold,
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
    "1": Description("normalization", epsilon=1e-5),
    "2": Description("transposed", (2, 3), 2, 7),
    "3": Description("separable", (3, 3), 2, 3),
    "4": Description("convolution", (3, 3), 2),
}


def test_the_layers_are_described(tmp_path):
    checkpoints.save(network(), tmp_path / "a.safetensors")
    assert neutral.read(tmp_path / "a.safetensors").layers == DESCRIBED


def test_a_model_comes_back_with_every_bit(tmp_path):
    model, again = network(), network()
    for tensor in again.state_dict().values():
        tensor.zero_()
    checkpoints.save(model, tmp_path / "a.safetensors")
    checkpoints.load(again, tmp_path / "a.safetensors")
    assert neutral.read(tmp_path / "a.safetensors").tensors["4.weight"].dtype == "BF16"
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_the_metadata_is_as_the_documentation_says(tmp_path):
    checkpoints.save(network(), tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", "np") as file:
        metadata = file.metadata()
    assert metadata.keys() == {"format", "version", "layers"}
    assert (metadata["format"], metadata["version"]) == ("do_conv", "1")
    layers = json.loads(metadata["layers"])
    assert layers["2"] == {
        "kind": "transposed", "kernel_size": [2, 3], "groups": 2, "d_mul": 7,
    }  # fmt: skip
    assert layers["1"] == {"kind": "normalization", "epsilon": 1e-05}


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
    model = network().eval()
    checkpoints.save(model, tmp_path / "a.safetensors")
    checkpoints.fold(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert neutral.read(tmp_path / "b.safetensors").layers == {
        "0": Description("convolution", (3, 3), 2),
        "1": DESCRIBED["1"],
        "2": Description("transposed", (2, 3), 2),
        "3.depthwise": Description("convolution", (3, 3), 4),
        "3.pointwise": Description("convolution", (1, 1), 2),
        "4": Description("convolution", (3, 3), 2),
    }
    expected = fold(model)
    plain = fold(network())
    for parameter in plain.parameters():
        nn.init.zeros_(parameter)
    checkpoints.load(plain, tmp_path / "b.safetensors")
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(plain.state_dict()[name], tensor, rtol=1e-6, atol=1e-6)


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
        ({"groups": 0}, "layers that are not such a description;"),
        ({"groups": "1"}, "layers that are not such a description;"),
        ({"d_mul": 0}, "layers that are not such a description;"),
        ({"kernel_size": [3, 5]}, "layer 'a' with weight (6, 4, 3, 3), depthwise_delta"),
        ({"groups": 2}, "layer 'a' with weight (6, 4, 3, 3), depthwise_delta"),
        ({"d_mul": None}, "must be ['weight']; received ['depthwise_delta', 'weight'];"),
        ({"kind": "dense", "d_mul": None}, "must be ['weight']; received ['depthwise_delta',"),
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


@pytest.mark.parametrize(
    ("description", "shapes"),
    [
        ({"kind": "convolution", "kernel_size": [3, 5]}, {"weight": (6, 4, 3, 3)}),
        ({"kind": "dense"}, {"weight": (6, 4, 1)}),
        ({"kind": "dense"}, {"weight": (6, 4), "bias": (4,)}),
        ({"kind": "normalization", "epsilon": 1e-5}, {"weight": (6,), "bias": (4,)}),
        ({"kind": "normalization", "epsilon": 1e-5}, {"weight": (6, 1)}),
        ({"kind": "prelu"}, {"weight": (6, 1)}),
    ],
)
def test_a_plain_layer_that_does_not_fit_its_description(description, shapes, tmp_path):
    arrays = {f"a.{role}": np.ones(shape, "float32") for role, shape in shapes.items()}
    table = json.dumps({"a": description})
    metadata = {"format": "do_conv", "version": "1", "layers": table}
    save_file(arrays, tmp_path / "a.safetensors", metadata)
    with pytest.raises(DOConvError, match="must fit each other; received layer 'a' with"):
        neutral.read(tmp_path / "a.safetensors")


def test_nothing_is_written_of_what_does_not_fit(tmp_path):
    checkpoints.save(network(), tmp_path / "a.safetensors")
    held = neutral.read(tmp_path / "a.safetensors")
    held.layers["0"] = Description("convolution", (3, 3), 1, 9)
    with pytest.raises(DOConvError, match="must fit each other; received layer '0'"):
        neutral.write(tmp_path / "b.safetensors", held)
    assert not (tmp_path / "b.safetensors").exists()
