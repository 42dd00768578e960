"""Memory formats: kernels, folded layers, outputs and gradients have those of the plain layer."""

import copy

import pytest
import torch
from torch import nn

from do_conv import torch as do_torch
from do_conv.torch import convert

FORMATS = {2: torch.channels_last, 3: torch.channels_last_3d}
# Groups, input and output channels, kernel: with axes of size one, whose strides count, and with
# few and many output channels in a group, which are composed in different ways.
SIZES = [
    pytest.param(1, 8, 8, 3, id="ordinary"),
    pytest.param(2, 8, 4, 3, id="grouped"),
    pytest.param(8, 8, 8, 3, id="depthwise"),
    pytest.param(8, 8, 16, 3, id="depthwise-two-outputs"),
    pytest.param(1, 1, 8, 3, id="one-input"),
    pytest.param(1, 8, 1, 3, id="one-output"),
    pytest.param(1, 1, 1, 3, id="one-of-both"),
    pytest.param(1, 8, 8, "flat", id="flat-kernel"),
    pytest.param(8, 8, 8, "flat", id="flat-depthwise"),
]
LAYERS = [f"Conv{kind}{rank}d" for kind in ("", "Transpose") for rank in (2, 3)]


def pair_of(name, groups, inputs, outputs, kernel, *, dtype=torch.float64, **ours):
    """A plain layer and one of ours, alike and with a random D', in channels last."""
    rank = int(name[-2])
    kernel = (1, 3, 2)[:rank] if kernel == "flat" else kernel
    plain = getattr(nn, name)(inputs, outputs, kernel, groups=groups, dtype=dtype)
    layer = getattr(do_torch, f"DO{name}")(
        inputs, outputs, kernel, groups=groups, dtype=dtype, **ours
    )
    nn.init.normal_(layer.depthwise_delta, std=0.1)
    x = torch.randn(2, inputs, *[6] * rank, dtype=dtype)
    return (*(module.to(memory_format=FORMATS[rank]) for module in (plain, layer)), x)


@pytest.mark.parametrize("ours", [{}, {"composition": "feature"}, {"d_mul": 29}], ids=str)
@pytest.mark.parametrize(("groups", "inputs", "outputs", "kernel"), SIZES)
@pytest.mark.parametrize("name", LAYERS)
def test_kernels_and_outputs_have_the_plain_layers_strides(
    name, groups, inputs, outputs, kernel, ours
):
    plain, layer, x = pair_of(name, groups, inputs, outputs, kernel, **ours)
    assert layer.composed_weight().stride() == plain.weight.stride()
    assert layer.fold().weight.stride() == plain.weight.stride()
    assert layer(x).stride() == plain(x).stride()
    assert layer.fold()(x).stride() == plain(x).stride()


# PyTorch's own three-dimensional gradients are channels last in float32 alone.
@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("Conv2d", torch.float32),
        ("Conv2d", torch.bfloat16),
        ("ConvTranspose2d", torch.float32),
        ("Conv3d", torch.float32),
    ],
    ids=str,
)
@pytest.mark.parametrize("ours", [{}, {"composition": "feature"}, {"d_mul": 29}], ids=str)
@pytest.mark.parametrize(("groups", "inputs", "outputs", "kernel"), SIZES)
def test_gradients_have_their_parameters_strides(
    name, groups, inputs, outputs, kernel, ours, dtype
):
    _, layer, x = pair_of(name, groups, inputs, outputs, kernel, dtype=dtype, **ours)
    parameters = [layer.weight, layer.depthwise_delta]
    gradients = torch.autograd.grad(layer(x).sum(), parameters)
    layer(x).sum().backward()
    for parameter, gradient in zip(parameters, gradients, strict=True):
        assert gradient.stride() == parameter.stride()
        assert parameter.grad.stride() == parameter.stride()


@pytest.mark.parametrize(("groups", "inputs", "outputs", "kernel"), SIZES)
def test_gradients_that_have_gradients_have_them_too(groups, inputs, outputs, kernel):
    _, layer, x = pair_of("Conv2d", groups, inputs, outputs, kernel)
    parameters = [layer.weight, layer.depthwise_delta]
    loss = layer(x).square().sum()
    for parameter, gradient in zip(
        parameters, torch.autograd.grad(loss, parameters, create_graph=True), strict=True
    ):
        assert gradient.requires_grad
        assert gradient.stride() == parameter.stride()


@pytest.mark.parametrize("composition", ["kernel", "feature"])
@pytest.mark.parametrize("options", [{}, {"d_mul": 2}, {"groups": 8}], ids=str)
@pytest.mark.parametrize("rank", [2, 3])
def test_a_separable_layer_and_the_pair_it_folds_to(rank, options, composition):
    kind = getattr(do_torch, f"DepthwiseSeparableConv{rank}d")
    layer = kind(8, 16, 3, composition=composition, **options).to(memory_format=FORMATS[rank])
    x = torch.randn(2, 8, *[5] * rank)
    groups = options.get("groups", 1)
    pair, plain = layer.fold(), getattr(nn, f"Conv{rank}d")(8, 16, 3, groups=groups)
    plain_pair = copy.deepcopy(pair).to(memory_format=torch.contiguous_format)
    plain, plain_pair = (module.to(memory_format=FORMATS[rank]) for module in (plain, plain_pair))
    assert layer.composed_weight().stride() == plain.weight.stride()
    for ours, theirs in zip(pair.parameters(), plain_pair.parameters(), strict=True):
        assert ours.stride() == theirs.stride()
    assert pair(x).stride() == plain_pair(x).stride()
    like = plain if composition == "kernel" else plain_pair
    assert layer(x).stride() == like(x).stride()
    parameters = [layer.weight, layer.depthwise_weight]
    for parameter, gradient in zip(
        parameters, torch.autograd.grad(layer(x).sum(), parameters), strict=True
    ):
        assert gradient.stride() == parameter.stride()


@pytest.mark.parametrize(("groups", "inputs", "outputs", "kernel"), SIZES)
@pytest.mark.parametrize("d_mul", [None, 12])
def test_the_format_changes_no_value(groups, inputs, outputs, kernel, d_mul):
    _, layer, x = pair_of("Conv2d", groups, inputs, outputs, kernel, d_mul=d_mul)
    results = []
    for memory_format in FORMATS[2], torch.contiguous_format:
        layer.to(memory_format=memory_format)
        parameters = [layer.weight, layer.depthwise_delta]
        gradients = torch.autograd.grad(layer(x).square().sum(), parameters)
        results.append([layer.composed_weight().detach(), *gradients])
    assert results[1][0].is_contiguous()
    for last, first in zip(*results, strict=True):
        assert torch.allclose(last, first, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("d_mul", [None, 12])
def test_a_converted_network_gives_the_formats_of_the_plain_one(d_mul):
    plain = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, groups=4)).to(
        memory_format=torch.channels_last
    )
    x = torch.randn(2, 1, 8, 8)
    converted = convert(plain, d_mul=d_mul)
    assert converted(x).stride() == plain(x).stride()
    assert converted[0].composed_weight().stride() == plain[0].weight.stride()
    assert converted[1].composed_weight().stride() == plain[1].weight.stride()
