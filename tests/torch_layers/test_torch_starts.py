"""How the PyTorch layers start: as the plain layer to the last bit, or from He's distribution."""

import math

import pytest
import torch
from torch import nn

import do_conv
from do_conv.torch import DOConv1d, DOConv2d, DOConv3d

CLASSES = {1: (DOConv1d, nn.Conv1d), 2: (DOConv2d, nn.Conv2d), 3: (DOConv3d, nn.Conv3d)}
SIZES = {1: (9,), 2: (9, 8), 3: (5, 6, 5)}


def batch(rank, dtype):
    return torch.randn(2, 4, *SIZES[rank], dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_identity_start_is_the_plain_layer_to_the_last_bit(windowed, dtype):
    rank, window = windowed
    ours, plain = CLASSES[rank]
    torch.manual_seed(3)
    expected = plain(4, 8, **window, dtype=dtype)
    state = torch.get_rng_state()
    torch.manual_seed(3)
    layer = ours(4, 8, **window, dtype=dtype)
    # Nothing else is drawn, so the layers made after this one start as before, too.
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(layer.weight, expected.weight)
    assert torch.equal(layer.composed_weight(), expected.weight)
    assert expected.bias is None or torch.equal(layer.bias, expected.bias)
    x = batch(rank, dtype)
    assert torch.equal(layer(x), expected(x))


def test_identity_start_is_the_plain_layer_under_autocast(windowed):
    rank, window = windowed
    ours, plain = CLASSES[rank]
    torch.manual_seed(3)
    expected = plain(4, 8, **window)
    torch.manual_seed(3)
    layer = ours(4, 8, **window)
    x = batch(rank, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x)
        assert out.dtype == torch.bfloat16
        assert torch.equal(out, expected(x))


@pytest.mark.parametrize(("kernel_size", "d_mul"), [(3, None), (3, 11), (3, 18), (1, None)])
def test_autocast_rounds_the_composed_kernel_no_earlier_than_the_convolution(kernel_size, d_mul):
    layer = DOConv2d(4, 6, kernel_size, d_mul=d_mul)
    if kernel_size > 1:
        nn.init.normal_(layer.depthwise_delta, std=0.3)
    expected = layer.composed_weight()
    with torch.autocast("cpu", torch.bfloat16):
        composed = layer.composed_weight()
    assert composed.dtype == torch.float32
    assert torch.equal(composed, expected)


@pytest.mark.parametrize("d_mul", [None, 1, 5, -3])
@pytest.mark.parametrize("composition", ["kernel", "feature"])
def test_a_kernel_of_one_position_is_the_plain_layer(d_mul, composition):
    torch.manual_seed(3)
    expected = nn.Conv2d(4, 6, 1, stride=2, groups=2)
    torch.manual_seed(3)
    layer = DOConv2d(
        4, 6, 1, stride=2, groups=2, d_mul=d_mul, depthwise_init="he", composition=composition
    )
    assert layer.depthwise_delta is None
    x = batch(2, torch.float32)
    assert torch.equal(layer(x), expected(x))


@pytest.mark.parametrize("d_mul", [None, 11, 18])
def test_he_start(d_mul):
    torch.manual_seed(5)
    layer = DOConv2d(512, 4, 3, d_mul=d_mul, depthwise_init="he")
    # float64 only for the statistics
    start = layer.depthwise_delta.detach().double() + torch.as_tensor(do_conv.identity(layer.spec))
    std = math.sqrt(2 / 9)
    assert start.std().item() == pytest.approx(std, rel=0.02)
    assert start.mean().item() == pytest.approx(0, abs=5 * std / math.sqrt(start.numel()))
    # Each slot on its own: one that kept its identity would have mean 1.
    assert start.mean(0).abs().max().item() < 5 * std / math.sqrt(512)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_he_start_follows_the_seed(dtype):
    def make(seed):
        torch.manual_seed(seed)
        return DOConv2d(4, 6, 3, depthwise_init="he", dtype=dtype).depthwise_delta

    assert torch.equal(make(1), make(1))
    assert not torch.equal(make(1), make(2))


@pytest.mark.parametrize("d_mul", [None, 11])
@pytest.mark.parametrize("start", ["identity", "he"])
def test_reset_parameters_starts_again(start, d_mul):
    layer = DOConv2d(4, 6, 3, d_mul=d_mul, depthwise_init=start, device="meta")
    layer = layer.to_empty(device="cpu")
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.fill_(math.nan)
    torch.manual_seed(3)
    layer.reset_parameters()
    assert all(parameter.isfinite().all() for parameter in layer.parameters())
    assert bool((layer.depthwise_delta == 0).all()) == (start == "identity")
