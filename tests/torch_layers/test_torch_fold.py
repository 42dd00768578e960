"""Folding a PyTorch layer: the plain layer that does the same, and nothing of ours in it."""

import math

import pytest
import torch
from torch import nn

from do_conv import DOConvError
from do_conv.torch import DOConv1d, DOConv2d, DOConv3d

CLASSES = {1: (DOConv1d, nn.Conv1d), 2: (DOConv2d, nn.Conv2d), 3: (DOConv3d, nn.Conv3d)}
# PyTorch says so once, of its own layers too.
EVEN_SAME = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
SIZES = {1: (9,), 2: (9, 8), 3: (5, 6, 5)}
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
MODES = ("zeros", "reflect", "replicate", "circular")

WINDOWS = [
    *[
        pytest.param(
            rank, {"kernel_size": 3, "padding": 1, "padding_mode": mode}, id=f"{rank}d-{mode}"
        )
        for rank in CLASSES
        for mode in MODES
    ],
    pytest.param(
        2, {"kernel_size": 3, "padding": (2, 1), "padding_mode": "reflect"}, id="2d-uneven"
    ),
    pytest.param(2, {"kernel_size": (2, 3), "stride": (2, 1), "dilation": (1, 2)}, id="2d-steps"),
    pytest.param(
        2, {"kernel_size": (2, 3), "padding": "same", "groups": 2}, id="2d-same", marks=EVEN_SAME
    ),
    pytest.param(2, {"kernel_size": 3, "groups": 4, "bias": False}, id="2d-depthwise"),
    pytest.param(2, {"kernel_size": 3, "groups": 2, "d_mul": 11}, id="2d-more"),
    pytest.param(2, {"kernel_size": (3, 2), "padding": "valid", "d_mul": 12}, id="2d-twice"),
    pytest.param(3, {"kernel_size": (1, 2, 3), "groups": 2, "d_mul": 7}, id="3d-more"),
    pytest.param(2, {"kernel_size": 1, "stride": 2, "d_mul": 7}, id="2d-pointwise"),
]


def make(rank, dtype=torch.float32, **window):
    """A layer with a D' that is not zero, and an input for it."""
    torch.manual_seed(3)
    layer = CLASSES[rank][0](4, 8, **window, dtype=dtype)
    if layer.depthwise_delta is not None:
        nn.init.normal_(layer.depthwise_delta, std=0.3)
    return layer, torch.randn(2, 4, *SIZES[rank], dtype=dtype)


@DTYPES
@pytest.mark.parametrize(("rank", "window"), WINDOWS)
def test_folded_layer_gives_the_same_output_to_the_last_bit(rank, window, dtype):
    layer, x = make(rank, dtype, **window)
    folded = layer.fold()
    assert torch.equal(folded(x), layer(x))
    assert torch.equal(folded(x[0]), layer(x[0]))
    if layer.depthwise_delta is not None:
        nn.init.zeros_(layer.depthwise_delta)
        assert not torch.equal(folded(x), layer(x))


@pytest.mark.parametrize(("rank", "window"), WINDOWS)
def test_folded_layer_gives_the_same_output_under_autocast(rank, window):
    layer, x = make(rank, **window)
    folded = layer.fold()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(folded(x), layer(x))


@pytest.mark.parametrize(("rank", "window"), WINDOWS)
def test_folded_layer_is_the_plain_one(rank, window):
    layer, _ = make(rank, **window)
    plain = CLASSES[rank][1]
    options = {name: value for name, value in window.items() if name != "d_mul"}
    expected, folded = plain(4, 8, **options), layer.fold()
    assert type(folded) is plain
    assert repr(folded) == repr(expected)
    assert set(vars(folded)) == set(vars(expected))
    assert {k: v.shape for k, v in folded.state_dict().items()} == {
        k: v.shape for k, v in expected.state_dict().items()
    }


@pytest.mark.parametrize("composition", ["kernel", "feature"])
@pytest.mark.parametrize("d_mul", [None, 11])
def test_folding_does_not_depend_on_the_composition(d_mul, composition):
    layer, x = make(2, torch.float64, kernel_size=3, d_mul=d_mul)
    layer.composition = composition
    torch.testing.assert_close(layer.fold()(x), layer(x), rtol=1e-12, atol=1e-12)


@DTYPES
@pytest.mark.parametrize("training", [True, False])
def test_folding_keeps_mode_and_dtype(training, dtype):
    layer, _ = make(2, dtype, kernel_size=3)
    folded = layer.train(training).fold()
    assert folded.training is training
    assert folded.weight.dtype == folded.bias.dtype == dtype
    assert layer.training is training


@pytest.mark.parametrize("kernel_size", [3, 1])
@pytest.mark.parametrize("weight", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_folding_keeps_what_is_trained(weight, bias, kernel_size):
    layer, _ = make(2, kernel_size=kernel_size)
    layer.weight.requires_grad_(weight)
    layer.bias.requires_grad_(bias)
    folded = layer.fold()
    assert (folded.weight.requires_grad, folded.bias.requires_grad) == (weight, bias)
    assert folded.weight.is_leaf
    assert folded.bias.is_leaf


def test_folding_without_bias():
    layer, _ = make(2, kernel_size=3, bias=False)
    assert layer.fold().bias is None


@pytest.mark.parametrize("window", [{"kernel_size": 3}, {"kernel_size": 2, "d_mul": 5}])
def test_training_goes_on_after_folding(window):
    layer, x = make(2, **window)
    before = layer(x).sum()
    layer.fold()(x).sum().backward()
    assert all(parameter.grad is None for parameter in layer.parameters())
    before.backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())


@pytest.mark.parametrize(
    "window",
    [{"kernel_size": 3}, {"kernel_size": 3, "d_mul": 11}, {"kernel_size": 1}],
    ids=["default", "more", "pointwise"],
)
def test_folded_layer_owns_its_memory(window):
    layer, x = make(2, **window)
    folded = layer.fold()
    expected, kept = folded(x), layer(x)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(1)
    assert torch.equal(folded(x), expected)
    assert not torch.equal(layer(x), kept)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("window", "name", "named"),
    [
        ({"kernel_size": 3}, "weight", "weight"),
        ({"kernel_size": 3}, "depthwise_delta", "weight"),
        ({"kernel_size": 3, "d_mul": 11}, "weight", "weight"),
        ({"kernel_size": 3, "d_mul": 11}, "depthwise_delta", "weight"),
        ({"kernel_size": 3}, "bias", "bias"),
        ({"kernel_size": 1}, "weight", "weight"),
    ],
)
def test_folding_refuses_what_is_not_finite(window, name, named, value):
    layer, _ = make(2, **window)
    with torch.no_grad():
        getattr(layer, name).view(-1)[-1] = value
    pattern = f"{named} must be finite to be folded; .*NaN or infinite.*; .*check_finite=False"
    with pytest.raises(DOConvError, match=pattern):
        layer.fold()
    folded = layer.fold(check_finite=False)
    assert not getattr(folded, named).isfinite().all()


@pytest.mark.parametrize(("rank", "memory"), [(2, "channels_last"), (3, "channels_last_3d")])
def test_composed_kernel_has_the_memory_format_of_the_weight(rank, memory):
    layer, _ = make(rank, kernel_size=3)
    layer.to(memory_format=getattr(torch, memory))
    for kernel in (layer.composed_weight(), layer.fold().weight):
        assert kernel.is_contiguous(memory_format=getattr(torch, memory))
        assert not kernel.is_contiguous()
