"""Transposed layers: what differs from the convolutions, whose parameters and starts they share."""

import re

import pytest
import torch
from torch import nn

from do_conv import DOConvError
from do_conv.torch import DOConvTranspose1d, DOConvTranspose2d, DOConvTranspose3d

CLASSES = {
    1: (DOConvTranspose1d, nn.ConvTranspose1d),
    2: (DOConvTranspose2d, nn.ConvTranspose2d),
    3: (DOConvTranspose3d, nn.ConvTranspose3d),
}
SIZES = {1: (6,), 2: (5, 4), 3: (3, 2, 3)}
WINDOWS = [
    pytest.param(1, {"kernel_size": 4, "stride": 2, "padding": 1}, id="1d"),
    pytest.param(2, {"kernel_size": 3}, id="2d"),
    pytest.param(2, {"kernel_size": (3, 2), "groups": 2, "bias": False}, id="2d-groups"),
    pytest.param(2, {"kernel_size": 3, "groups": 4, "stride": (2, 1)}, id="2d-depthwise"),
    pytest.param(
        2,
        {"kernel_size": 3, "stride": (2, 3), "padding": (1, 2), "output_padding": (1, 2)},
        id="2d-output-padding",
    ),
    pytest.param(2, {"kernel_size": 2, "dilation": (1, 3), "output_padding": (0, 2)}, id="2d-far"),
    pytest.param(2, {"kernel_size": 1, "stride": 2}, id="2d-pointwise"),
    pytest.param(3, {"kernel_size": (1, 2, 3), "stride": (1, 2, 1)}, id="3d"),
]


def make(rank, composition="kernel", dtype=torch.float32, **window):
    torch.manual_seed(3)
    layer = CLASSES[rank][0](4, 8, **window, dtype=dtype, composition=composition)
    if layer.depthwise_delta is not None:
        nn.init.normal_(layer.depthwise_delta, std=0.3)
    return layer, torch.randn(2, 4, *SIZES[rank], dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("rank", "window"), WINDOWS)
def test_identity_start_is_the_plain_layer_to_the_last_bit(rank, window, dtype):
    ours, plain = CLASSES[rank]
    torch.manual_seed(3)
    expected = plain(4, 8, **window, dtype=dtype)
    torch.manual_seed(3)
    layer = ours(4, 8, **window, dtype=dtype)
    x = torch.randn(2, 4, *SIZES[rank], dtype=dtype)
    assert torch.equal(layer(x), expected(x))
    assert torch.equal(layer(x[0]), expected(x[0]))


@pytest.mark.parametrize(("rank", "window"), WINDOWS)
def test_folded_layer_is_the_plain_one_to_the_last_bit(rank, window):
    layer, x = make(rank, **window)
    folded = layer.fold()
    assert type(folded) is CLASSES[rank][1]
    assert repr(folded) == repr(CLASSES[rank][1](4, 8, **window))
    assert folded.state_dict().keys() == CLASSES[rank][1](4, 8, **window).state_dict().keys()
    assert torch.equal(folded(x), layer(x))


@pytest.mark.parametrize(
    ("options", "weight", "delta"),
    [
        ({}, (4, 6, 3, 2), (6, 6, 3, 2)),
        ({"groups": 2}, (4, 3, 3, 2), (6, 6, 3, 2)),
        ({"groups": 2, "d_mul": 13}, (4, 3, 13), (6, 13, 3, 2)),
    ],
)
def test_the_depthwise_kernel_belongs_to_the_output_channels(options, weight, delta):
    layer = DOConvTranspose2d(4, 6, (3, 2), **options)
    assert layer.weight.shape == weight
    assert layer.depthwise_delta.shape == delta
    assert layer.composed_weight().shape == nn.ConvTranspose2d(4, 6, (3, 2), **{
        name: value for name, value in options.items() if name == "groups"
    }).weight.shape  # fmt: skip


@pytest.mark.parametrize("composition", ["kernel", "feature"])
@pytest.mark.parametrize(
    ("dilation", "size"), [(1, (9, 7)), (1, (10, 8)), (1, (10, 7)), (2, (11, 9)), (2, (12, 9))]
)
def test_an_output_size_may_be_asked_for(composition, dilation, size):
    layer, x = make(2, composition, kernel_size=3, stride=2, padding=1, dilation=dilation)
    found = layer(x, output_size=list(size))
    assert found.shape[2:] == size
    torch.testing.assert_close(found, layer.fold()(x, output_size=list(size)))


def test_a_plain_checkpoint_is_the_identity():
    expected = nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2)
    layer = DOConvTranspose2d(4, 6, 3, stride=2, groups=2, depthwise_init="he")
    layer.load_state_dict(expected.state_dict(), strict=True)
    x = torch.randn(2, 4, 5, 4)
    assert torch.equal(layer(x), expected(x))


def test_he_start():
    torch.manual_seed(0)
    layer = DOConvTranspose2d(4, 64, 3, depthwise_init="he")
    depthwise = layer.depthwise_delta.detach() + torch.eye(9).reshape(9, 3, 3)
    assert abs(depthwise.std() - (2 / 9) ** 0.5) < 0.02
    assert abs(depthwise.mean()) < 0.02


def test_the_networks_own_batch_norm_fusion():
    layer, x = make(2, kernel_size=3, stride=2)
    norm = nn.BatchNorm2d(8)
    norm.weight.data.uniform_(0.5, 2)
    norm.running_var.uniform_(0.5, 2)
    expected = norm.eval()(layer.eval()(x))
    # Before folding the fusion would scale the axis of W that holds its output channels, too.
    for convolution in (layer, layer.fold()):
        fused = nn.utils.fusion.fuse_conv_bn_eval(convolution, norm, transpose=True)
        torch.testing.assert_close(fused(x), expected)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"groups": 3}, "groups must divide the input channels; received groups=3 for 4 input"),
        ({"in_channels": 0}, "in_channels must be a positive integer; received in_channels=0"),
        ({"out_channels": None}, "out_channels must be a positive integer; received out_channels"),
        ({"d_mul": 8}, "d_mul must be at least the number of kernel positions, 9"),
        ({"padding": "same"}, "padding must be an integer or 2 of them, one per spatial axis"),
        ({"padding_mode": "circular"}, "padding_mode must be 'zeros'; received padding_mode='cir"),
        ({"output_padding": 1}, "output_padding must be smaller than the stride or the dilation"),
    ],
)
def test_bad_arguments(changed, message):
    arguments = {"in_channels": 4, "out_channels": 6, "kernel_size": 3, **changed}
    with pytest.raises(DOConvError, match=re.escape(message)):
        DOConvTranspose2d(**arguments)


def test_a_bad_input():
    with pytest.raises(DOConvError, match=r"made for 4 input channels, on axis 1"):
        DOConvTranspose2d(4, 6, 3)(torch.zeros(1, 6, 5, 5))
