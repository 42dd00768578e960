"""Folding PyTorch's files: the plain network's state dict, and everything else as it was."""

import argparse
from collections import OrderedDict

import pytest
import torch
from torch import nn

from do_conv import checkpoints
from do_conv.torch import (
    DepthwiseSeparableConv1d,
    DepthwiseSeparableConv2d,
    DOConv1d,
    DOConv2d,
    DOConv3d,
    DOConvTranspose2d,
    folded_state_dict,
    over_parameterize,
)

LAYERS = {
    "default": lambda: DOConv2d(4, 6, 3),
    "no-bias": lambda: DOConv2d(4, 6, 3, bias=False),
    "groups": lambda: DOConv2d(4, 6, 3, groups=2),
    "depthwise": lambda: DOConv2d(4, 8, 3, groups=4),
    "not-square": lambda: DOConv2d(4, 6, (3, 5)),
    "whole-blocks": lambda: DOConv2d(4, 6, 3, d_mul=18),
    "odd-multiplier": lambda: DOConv2d(4, 6, 3, groups=2, d_mul=11),
    "1d": lambda: DOConv1d(4, 6, 3),
    "3d": lambda: DOConv3d(4, 6, 2),
    "transposed": lambda: DOConvTranspose2d(4, 6, 3, groups=2),
    "transposed-multiplier": lambda: DOConvTranspose2d(4, 6, 3, groups=2, d_mul=20),
    "separable": lambda: DepthwiseSeparableConv2d(4, 6, 3),
    "separable-groups": lambda: DepthwiseSeparableConv2d(4, 6, 3, groups=2, d_mul=3),
    "separable-1d": lambda: DepthwiseSeparableConv1d(4, 6, 3, d_mul=2),
    "parametrized": lambda: over_parameterize(nn.Conv2d(4, 6, 3)),
    "parametrized-multiplier": lambda: over_parameterize(nn.Conv2d(4, 6, 3), d_mul=20),
}


def trained(layer):
    """The layer with parameters as after training."""
    generator = torch.Generator().manual_seed(0)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5, generator=generator)
    return layer


def folded_file(content, folder, **options):
    torch.save(content, folder / "in.pt")
    report = checkpoints.fold(folder / "in.pt", folder / "out.pt", **options)
    return torch.load(folder / "out.pt", weights_only=True), report


def assert_same_states(found, expected, tolerance=1e-6):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module.features."])
@pytest.mark.parametrize("name", LAYERS)
def test_every_kind_of_layer(name, prefix, tmp_path):
    layer = trained(LAYERS[name]())
    content = {prefix + key: tensor for key, tensor in layer.state_dict().items()}
    found, report = folded_file(content, tmp_path)
    expected = {prefix + key: tensor for key, tensor in folded_state_dict(layer).items()}
    assert_same_states(found, expected)
    assert [one.name for one in report.layers] == [prefix.rstrip(".")]


def test_the_plain_network_loads_the_file_and_gives_the_outputs(tmp_path):
    def network(conv):
        return nn.Sequential(
            conv(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), conv(8, 4, 1), conv(4, 4, 3)
        )

    model, plain = trained(network(DOConv2d)).eval(), network(nn.Conv2d).eval()
    found, _ = folded_file(model.state_dict(), tmp_path)
    plain.load_state_dict(found, strict=True)
    x = torch.randn(2, 3, 12, 12)
    torch.testing.assert_close(plain(x), model(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-12), (torch.float16, 1e-3), (torch.bfloat16, 1e-2)],
)
def test_a_layer_keeps_its_dtype(dtype, tolerance, tmp_path):
    layer = trained(DOConv2d(4, 6, 3)).to(dtype)
    found, _ = folded_file(layer.state_dict(), tmp_path)
    exact = folded_state_dict(layer.double())["weight"]
    assert found["weight"].dtype == dtype
    torch.testing.assert_close(found["weight"].double(), exact, rtol=tolerance, atol=tolerance)


def test_narrow_kernels_are_composed_in_float32(tmp_path):
    layer = trained(DOConv2d(4, 6, 3)).bfloat16()
    found, _ = folded_file(layer.state_dict(), tmp_path)
    exact = folded_state_dict(layer.float())["weight"].bfloat16()
    # One in a thousand may lie so near the middle of two that the order of a sum decides.
    assert (found["weight"] != exact).float().mean() < 0.02


def test_arrays_of_two_dtypes_are_composed_in_the_wider_one(tmp_path):
    layer = DOConv1d(1, 1, 2, bias=False)
    nn.init.ones_(layer.weight)
    state = {"weight": layer.weight.data, "depthwise_delta": torch.zeros(1, 2, 2).double()}
    state["depthwise_delta"][0, 0, 0] = 1e-9 - 1  # in float32 it is -1, and W' is 0
    found, _ = folded_file(state, tmp_path)
    expected = torch.tensor([[[1e-9, 1.0]]])
    torch.testing.assert_close(found["weight"], expected, rtol=1e-6, atol=0)


def test_every_state_dict_in_a_file_is_folded_where_it_is_and_the_rest_is_untouched(tmp_path):
    layer, other = trained(DOConv2d(4, 6, 3)), trained(nn.Linear(3, 3))
    rest = {
        "epoch": 3,
        "optimizer": {
            "state": {0: {"exp_avg": torch.ones(4, 9, 3, 3)}},
            "param_groups": [{"lr": 0.1}],
        },
        "args": argparse.Namespace(lr=0.1, depthwise_delta=0.5),
        "half": {"weight": torch.ones(3, dtype=torch.bfloat16), "count": torch.tensor(7)},
        "names": ("a", [None, True, 1.5, "b"]),
        "plain": other.state_dict(),
    }
    content = {**rest, "model": layer.state_dict(), "ema": [{"shadow": layer.state_dict()}]}
    found, report = folded_file_of_anything(content, tmp_path)
    expected = folded_state_dict(layer)
    assert_same_states(found["model"], expected)
    assert_same_states(found["ema"][0]["shadow"], expected)
    assert len(report.layers) == 2
    for name in ("epoch", "args", "names"):
        assert found[name] == rest[name]
    assert found["optimizer"]["param_groups"] == [{"lr": 0.1}]
    assert torch.equal(found["optimizer"]["state"][0]["exp_avg"], torch.ones(4, 9, 3, 3))
    assert found["half"]["weight"].dtype == torch.bfloat16
    assert found["half"]["count"].dtype == torch.int64
    assert_same_states(found["plain"], other.state_dict(), tolerance=0)


def folded_file_of_anything(content, folder):
    torch.save(content, folder / "in.pth")
    report = checkpoints.fold(folder / "in.pth", folder / "out.pth")
    return torch.load(folder / "out.pth", weights_only=False), report


def test_the_order_and_the_metadata_of_a_state_dict_stay(tmp_path):
    model = nn.Sequential(nn.BatchNorm2d(4), DOConv2d(4, 6, 3), nn.Linear(3, 3))
    found, _ = folded_file(model.state_dict(), tmp_path)
    assert type(found) is OrderedDict
    assert list(found)[-4:] == ["1.weight", "1.bias", "2.weight", "2.bias"]
    assert found._metadata[""] == {"version": 1}


def test_tied_layers_stay_tied(tmp_path):
    layer = trained(DOConv2d(4, 4, 3))
    found, _ = folded_file(nn.Sequential(layer, nn.ReLU(), layer).state_dict(), tmp_path)
    assert found["0.weight"].data_ptr() == found["2.weight"].data_ptr()


def test_parameters_stay_parameters(tmp_path):
    layer = DOConv2d(4, 6, 3)
    layer.weight.requires_grad_(False)
    found, _ = folded_file(dict(layer.named_parameters()), tmp_path)
    assert type(found["weight"]) is nn.Parameter
    assert not found["weight"].requires_grad
    assert found["bias"].requires_grad


def test_a_file_in_the_format_before_1_6(tmp_path):
    layer = trained(DOConv2d(4, 6, 3))
    torch.save(layer.state_dict(), tmp_path / "in.pt", _use_new_zipfile_serialization=False)
    checkpoints.fold(tmp_path / "in.pt", tmp_path / "out.pt")
    assert_same_states(torch.load(tmp_path / "out.pt"), folded_state_dict(layer))


def test_arrays_of_others_with_such_names_are_untouched(tmp_path):
    theirs = {
        "a.depthwise_weight": torch.ones(4, 1, 3, 3),
        "b.weight": torch.ones(6, 4, 3, 3),
        "b.depthwise_weight": torch.ones(4, 1, 3, 3),
        "my_depthwise_delta": torch.ones(3),
    }
    layer = trained(DOConv2d(4, 6, 3))
    found, report = folded_file({**theirs, **layer.state_dict()}, tmp_path)
    assert len(report.layers) == 1
    for name, tensor in theirs.items():
        assert torch.equal(found[name], tensor)


def test_progress_is_told_of_every_layer(tmp_path):
    told = []
    model = nn.Sequential(DOConv2d(3, 3, 3), DOConv2d(3, 3, 3))
    folded_file(model.state_dict(), tmp_path, advance=lambda *numbers: told.append(numbers))
    assert told == [(1, 2), (2, 2)]
