"""`folded_state_dict`: the plain network's weights, without the plain network."""

import pytest
import torch
from torch import nn

from do_conv import DOConvError
from do_conv.torch import (
    DepthwiseSeparableConv2d,
    DOConv2d,
    DOConvTranspose2d,
    LazyDOConv2d,
    folded_state_dict,
    over_parameterize,
)


class Plain:
    """The plain layers, under the names of ours."""

    conv, transposed = nn.Conv2d, nn.ConvTranspose2d


class Ours:
    """Ours."""

    conv, transposed = DOConv2d, DOConvTranspose2d


def network(layers):
    shared = layers.conv(6, 6, 3, padding=1)
    inner = nn.Sequential(shared, nn.ReLU(), layers.conv(6, 6, 1), shared)
    return nn.Sequential(
        layers.conv(4, 6, 3, groups=2, bias=False), nn.BatchNorm2d(6), inner,
        layers.transposed(6, 2, 3, stride=2),
    )  # fmt: skip


@pytest.fixture
def trained(x):
    torch.manual_seed(0)
    model = network(Ours)
    for name, parameter in model.named_parameters():
        if name.endswith("depthwise_delta"):
            nn.init.normal_(parameter, std=0.3)
    model(x)  # moves the running averages
    return model.eval()


def test_it_loads_strictly_into_the_plain_network(trained, x):
    plain = network(Plain).eval()
    state = folded_state_dict(trained)
    assert list(state) == list(plain.state_dict())
    plain.load_state_dict(state, strict=True)
    assert torch.equal(plain(x), trained(x))


def test_it_is_a_copy_where_it_is_composed(trained, x):
    expected, state = trained(x), folded_state_dict(trained)
    state["0.weight"].zero_()
    assert torch.equal(trained(x), expected)
    assert not any(value.requires_grad for value in state.values())


def test_of_one_layer(layer, x):
    plain = layer.fold()
    nn.init.zeros_(next(plain.parameters()))
    plain.load_state_dict(folded_state_dict(layer), strict=True)
    assert torch.equal(plain(x), layer.fold()(x))


def test_prefixes_of_wrappers_stay(trained):
    wrapped = nn.DataParallel(trained)
    expected = {f"module.{key}": value for key, value in folded_state_dict(trained).items()}
    found = folded_state_dict(wrapped)
    assert list(found) == list(expected)
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_of_a_parametrized_layer(x):
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = over_parameterize(nn.Conv2d(4, 6, 3), depthwise_init="he")
            self.convolution = nn.Conv2d(6, 2, 1)

        def forward(self, given):
            return self.convolution(self.conv(given))

    model = Named()
    state = folded_state_dict(model)
    assert set(state) == {"conv.weight", "conv.bias", "convolution.weight", "convolution.bias"}
    assert torch.equal(state["conv.weight"], model.conv.weight)


def test_of_a_separable_layer():
    state = folded_state_dict(nn.Sequential(DepthwiseSeparableConv2d(4, 6, 3)))
    assert list(state) == ["0.depthwise.weight", "0.pointwise.weight", "0.pointwise.bias"]


def test_a_plain_network_is_as_it_was():
    model = network(Plain)
    state = folded_state_dict(model)
    assert list(state) == list(model.state_dict())
    assert state["0.weight"].data_ptr() == model[0].weight.data_ptr()


@pytest.mark.parametrize("make", [DOConv2d, lambda *a: over_parameterize(nn.Conv2d(*a))])
def test_exception_a_kernel_that_is_not_finite(make):
    layer = make(4, 6, 3)
    layer.bias.data.zero_()
    for parameter in layer.parameters():
        if parameter.ndim > 1:
            nn.init.constant_(parameter, float("inf"))
    with pytest.raises(DOConvError, match=r"weight must be finite to be folded; .*find where"):
        folded_state_dict(nn.Sequential(layer))
    assert not folded_state_dict(layer, check_finite=False)["weight"].isfinite().all()


def test_exception_a_layer_without_parameters():
    with pytest.raises(DOConvError, match="layer 'LazyDOConv2d' without parameters"):
        folded_state_dict(nn.Sequential(LazyDOConv2d(6, 3)))
