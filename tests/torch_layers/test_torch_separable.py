"""Depthwise separable layers: two convolutions, trained as one and deployed as two."""

import inspect

import pytest
import torch
from torch import nn

from do_conv import DOConvError
from do_conv.torch import (
    DepthwiseSeparableConv1d,
    DepthwiseSeparableConv2d,
    DepthwiseSeparableConv3d,
    DOConv2d,
)

CLASSES = {
    1: (DepthwiseSeparableConv1d, nn.Conv1d),
    2: (DepthwiseSeparableConv2d, nn.Conv2d),
    3: (DepthwiseSeparableConv3d, nn.Conv3d),
}
SIZES = {1: (9,), 2: (8, 7), 3: (5, 4, 5)}
WINDOWS = [
    pytest.param(1, {"kernel_size": 3, "stride": 2}, 2, id="1d"),
    pytest.param(2, {"kernel_size": 3, "padding": 1}, 1, id="2d"),
    pytest.param(2, {"kernel_size": (2, 3), "groups": 2, "bias": False}, 5, id="2d-groups"),
    pytest.param(2, {"kernel_size": 3, "padding": "same", "dilation": 2}, 2, id="2d-same"),
    pytest.param(2, {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"}, 1, id="2d-mirror"),
    pytest.param(2, {"kernel_size": 1}, 3, id="2d-pointwise"),
    pytest.param(3, {"kernel_size": (1, 2, 3)}, 2, id="3d"),
]


def pair(rank, d_mul, groups=1, bias=True, **window):
    """The two plain layers."""
    plain = CLASSES[rank][1]
    depthwise = plain(4, 4 * d_mul, groups=4, bias=False, **window)
    return nn.Sequential(depthwise, plain(4 * d_mul, 6, 1, groups=groups, bias=bias))


@pytest.mark.parametrize("composition", ["kernel", "feature"])
@pytest.mark.parametrize(("rank", "window", "d_mul"), WINDOWS)
def test_it_starts_as_the_two_plain_layers(rank, window, d_mul, composition):
    torch.manual_seed(0)
    expected = pair(rank, d_mul, **window)
    torch.manual_seed(0)
    layer = CLASSES[rank][0](4, 6, **window, d_mul=d_mul, composition=composition)
    x = torch.randn(2, 4, *SIZES[rank])
    torch.testing.assert_close(layer(x), expected(x))


@pytest.mark.parametrize(("rank", "window", "d_mul"), WINDOWS)
def test_it_folds_to_the_two_plain_layers(rank, window, d_mul):
    layer = CLASSES[rank][0](4, 6, **window, d_mul=d_mul, composition="feature").eval()
    folded = layer.fold()
    expected = pair(rank, d_mul, **window)
    assert [repr(layer) for layer in folded] == [repr(layer) for layer in expected]
    assert [name for name, _ in folded.named_children()] == ["depthwise", "pointwise"]
    assert not any(layer.training for layer in folded.modules())
    x = torch.randn(2, 4, *SIZES[rank])
    assert torch.equal(folded(x), layer(x))


@pytest.mark.parametrize(("rank", "window", "d_mul"), WINDOWS)
def test_it_is_made_of_two_plain_layers(rank, window, d_mul):
    plain = pair(rank, d_mul, **window)
    plain[0].weight.requires_grad_(False)
    layer = CLASSES[rank][0].from_pair(*plain, composition="feature")
    x = torch.randn(2, 4, *SIZES[rank])
    assert torch.equal(layer(x), plain(x))
    assert not layer.depthwise_weight.requires_grad
    assert layer.weight.requires_grad
    layer.depthwise_weight.data.zero_()
    assert plain[0].weight.any()


@pytest.mark.parametrize("trained", ["depthwise_weight", "weight", "bias"])
@pytest.mark.parametrize("training", [True, False])
def test_mode_and_what_is_trained_stay_both_ways(trained, training):
    plain = pair(2, 2, kernel_size=3).train(training)
    own = {
        "depthwise_weight": plain[0].weight, "weight": plain[1].weight, "bias": plain[1].bias,
    }  # fmt: skip
    for name, parameter in own.items():
        parameter.requires_grad_(name == trained)
    layer = DepthwiseSeparableConv2d.from_pair(*plain)
    assert layer.training == training
    assert [name for name, p in layer.named_parameters() if p.requires_grad] == [trained]
    folded = layer.fold()
    assert {layer.training for layer in folded.modules()} == {training}
    assert [parameter.requires_grad for parameter in folded.parameters()] == [
        parameter.requires_grad for parameter in plain.parameters()
    ]


def test_signature_is_a_convolutions_and_two_keywords():
    for ours, plain in CLASSES.values():
        expected, found = (list(inspect.signature(c).parameters.values()) for c in (plain, ours))
        assert [(p.name, p.default) for p in found[: len(expected)]] == [
            (p.name, p.default) for p in expected
        ]
        added = {p.name: p.default for p in found[len(expected) :]}
        assert added == {"d_mul": 1, "composition": "kernel"}


def test_parameters_and_repr():
    layer = DepthwiseSeparableConv2d(4, 6, (3, 2), groups=2, d_mul=5)
    shapes = {name: tuple(p.shape) for name, p in layer.named_parameters()}
    assert shapes == {"weight": (6, 2, 5), "bias": (6,), "depthwise_weight": (4, 5, 3, 2)}
    assert layer.composed_weight().shape == (6, 2, 3, 2)
    assert repr(layer) == (
        "DepthwiseSeparableConv2d(4, 6, kernel_size=(3, 2), stride=(1, 1), groups=2, d_mul=5)"
    )


def test_training_by_the_kernel_is_training_the_two():
    torch.manual_seed(0)
    layer = DepthwiseSeparableConv2d(4, 6, 3, d_mul=2).double()
    pair, x = layer.fold(), torch.randn(2, 4, 6, 6, dtype=torch.float64)
    for module in (layer, pair):
        optimizer = torch.optim.SGD(module.parameters(), 0.1)
        for _ in range(3):
            optimizer.zero_grad()
            module(x).square().mean().backward()
            optimizer.step()
    for found, expected in zip(layer.fold().parameters(), pair.parameters(), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ["weight", "depthwise_weight", "bias"])
def test_folding_refuses_what_is_not_finite(name):
    layer = DepthwiseSeparableConv2d(4, 6, 3)
    getattr(layer, name).data.view(-1)[0] = float("nan")
    with pytest.raises(DOConvError, match=r"(weight|bias) must be finite to be folded"):
        layer.fold()
    assert any(p.isnan().any() for p in layer.fold(check_finite=False).parameters())


@pytest.mark.parametrize(
    ("depthwise", "pointwise"),
    [
        (nn.Conv2d(4, 4, 3), nn.Conv2d(4, 6, 1)),
        (DOConv2d(4, 4, 3, groups=4, bias=False), nn.Conv2d(4, 6, 1)),
        (nn.ConvTranspose2d(4, 4, 3, groups=4, bias=False), nn.Conv2d(4, 6, 1)),
        (nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 6, 1)),
        (nn.Conv2d(4, 4, 3, groups=4, bias=False), nn.Conv2d(4, 6, 3)),
        (nn.Conv2d(4, 4, 3, groups=4, bias=False), nn.Conv2d(4, 6, 1, stride=2)),
        (nn.Conv2d(4, 4, 3, groups=4, bias=False), nn.Conv2d(4, 6, 1, padding=1)),
        (nn.Conv2d(4, 4, 3, groups=4, bias=False), nn.Conv2d(8, 6, 1)),
    ],
)
def test_exception_two_layers_that_are_no_pair(depthwise, pointwise):
    with pytest.raises(DOConvError, match=r"a separable pair must be .*Conv.*2d.*; leave such"):
        DepthwiseSeparableConv2d.from_pair(depthwise, pointwise)


def test_exception_no_slots():
    with pytest.raises(DOConvError, match=r"d_mul must be a positive integer; .*d_mul=0"):
        DepthwiseSeparableConv2d(4, 6, 3, d_mul=0)
