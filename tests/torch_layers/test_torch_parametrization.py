"""`over_parameterize`: a D for layers that keep their own forward pass."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, parametrize

from do_conv import DOConvError, Spec
from do_conv import compose as core_compose
from do_conv.torch import DOConv2d, LazyDOConv2d, over_parameterize


class Standardised(nn.Conv2d):
    """A convolution with a forward pass of its own, which reads `weight`."""

    def forward(self, x):
        mean = self.weight.mean((1, 2, 3), keepdim=True)
        deviation = self.weight.std((1, 2, 3), keepdim=True)
        return functional.conv2d(x, (self.weight - mean) / deviation, self.bias, padding=1)


LAYERS = [
    pytest.param(lambda: nn.Conv1d(4, 6, 3, groups=2), id="1d"),
    pytest.param(lambda: nn.Conv2d(4, 6, (3, 2), padding=1, padding_mode="reflect"), id="2d"),
    pytest.param(lambda: nn.Conv3d(4, 4, 2, groups=4), id="3d"),
    pytest.param(lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), id="transposed"),
    pytest.param(lambda: Standardised(4, 6, 3), id="standardised"),
]


def batch(layer):
    return torch.randn(2, 4, *[5] * len(layer.kernel_size))


def composition(layer):
    return layer.parametrizations.weight[-1]


@pytest.mark.parametrize("more", [0, 1, "twice"])
@pytest.mark.parametrize("make", LAYERS)
def test_the_outputs_stay_and_a_trained_delta_folds(make, more):
    torch.manual_seed(0)
    layer = make().train()
    x, plain_class = batch(layer), type(layer)
    expected, area = layer(x), layer.weight[0, 0].numel()
    assert over_parameterize(layer, d_mul=2 * area if more == "twice" else area + more) is layer
    assert isinstance(layer, plain_class)
    assert torch.equal(layer(x), expected)
    layer(x).square().sum().backward()
    delta = composition(layer).depthwise_delta
    assert delta.grad.abs().max() > 0

    nn.init.normal_(delta, std=0.3)
    trained, kernel = layer(x), layer.weight.detach()
    assert not torch.equal(trained, expected)
    parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
    assert torch.equal(layer.weight, kernel)
    assert torch.equal(layer(x), trained)
    assert set(layer.state_dict()) == {"weight", "bias"}


def test_the_kernel_is_the_cores():
    layer = over_parameterize(nn.Conv2d(4, 6, 3, groups=2), d_mul=13, depthwise_init="he")
    weight, delta = layer.parametrizations.weight.original, composition(layer).depthwise_delta
    assert (weight.shape, delta.shape) == ((6, 2, 13), (4, 13, 3, 3))
    expected = core_compose(weight.detach().numpy(), delta.detach().numpy(), 2)
    torch.testing.assert_close(layer.weight.detach(), torch.from_numpy(expected))


def test_over_a_weight_that_is_computed_already():
    layer, x = parametrizations.weight_norm(nn.Conv2d(4, 6, 3)), torch.randn(2, 4, 5, 5)
    expected = layer(x)
    with pytest.raises(DOConvError, match=r"d_mul must be .* 9, where the weight is .*d_mul=18"):
        over_parameterize(layer, d_mul=18)
    over_parameterize(layer)
    assert torch.equal(layer(x), expected)
    nn.init.normal_(composition(layer).depthwise_delta)
    assert not torch.equal(layer(x), expected)


def test_he_start_keeps_the_first_weight():
    layer = nn.Conv2d(4, 6, 3)
    kernel = layer.weight.detach().clone()
    over_parameterize(layer, depthwise_init="he")
    assert torch.equal(layer.parametrizations.weight.original, kernel)
    depthwise = composition(layer).depthwise_delta.detach() + torch.eye(9).reshape(9, 3, 3)
    assert 0.3 < depthwise.std() < 0.65


def test_slots_after_the_last_whole_block_start_random_and_others_at_zero():
    layer = over_parameterize(nn.Conv2d(4, 6, 2), d_mul=11)
    weight = layer.parametrizations.weight.original.detach()
    assert not weight[:, :, 4:8].any()
    assert (weight[:, :, 8:] != 0).all()


def test_a_kernel_that_is_assigned_is_the_kernel():
    layer = over_parameterize(nn.Conv2d(4, 6, 3), depthwise_init="he")
    layer.weight = torch.full((6, 4, 3, 3), 0.25)
    assert torch.equal(layer.weight, torch.full((6, 4, 3, 3), 0.25))
    # As loops that initialise every convolution's weight do, on what is stored.
    nn.init.ones_(layer.parametrizations.weight.original)
    assert torch.equal(layer.weight, torch.ones(6, 4, 3, 3))


def test_the_state_goes_through_a_file_and_a_copy(tmp_path):
    layer = over_parameterize(nn.Conv2d(4, 6, 3), depthwise_init="he")
    torch.save(layer.state_dict(), tmp_path / "layer.pt")
    again = over_parameterize(nn.Conv2d(4, 6, 3))
    again.load_state_dict(torch.load(tmp_path / "layer.pt"), strict=True)
    x = batch(layer)
    assert torch.equal(again(x), layer(x))
    assert torch.equal(copy.deepcopy(layer)(x), layer(x))


def test_what_is_frozen_stays_frozen():
    layer = nn.Conv2d(4, 6, 3)
    layer.weight.requires_grad_(False)
    over_parameterize(layer)
    assert [name for name, p in layer.named_parameters() if p.requires_grad] == ["bias"]


def test_dtype_and_device_are_the_layers():
    layer = over_parameterize(nn.Conv2d(4, 6, 3, dtype=torch.float64, device="meta"))
    delta = composition(layer).depthwise_delta
    assert (delta.dtype, delta.device.type) == (torch.float64, "meta")


def test_a_pointwise_layer_is_left_as_it_is():
    layer = nn.Conv2d(4, 6, 1)
    assert over_parameterize(layer, d_mul=5) is layer
    assert not parametrize.is_parametrized(layer)


def test_compiled():
    layer, x = over_parameterize(nn.Conv2d(4, 6, 3), depthwise_init="he"), torch.randn(2, 4, 5, 5)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), layer(x))


@pytest.mark.parametrize(
    ("layer", "received"),
    [
        (nn.Linear(3, 4), "Linear"),
        (nn.Sequential(), "Sequential"),
        (DOConv2d(3, 4, 3), "DOConv2d"),
        (over_parameterize(nn.Conv2d(3, 4, 3)), "ParametrizedConv2d"),
    ],
)
def test_exception_what_is_no_plain_convolution(layer, received):
    match = f"only a plain convolution can be .* received a {received}; give a convolution"
    with pytest.raises(DOConvError, match=match):
        over_parameterize(layer)


def test_exception_a_lazy_layer_without_parameters():
    with pytest.raises(DOConvError, match="layer 'LazyConv2d' without parameters"):
        over_parameterize(nn.LazyConv2d(4, 3))
    with pytest.raises(DOConvError, match="received a LazyDOConv2d"):
        over_parameterize(LazyDOConv2d(4, 3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"d_mul": 8}, "d_mul must be at least the number of kernel positions, 9"),
        ({"depthwise_init": "xavier"}, "unknown depthwise_init 'xavier'; choose from identity, he"),
    ],
)
def test_exception_a_bad_option_leaves_the_layer_alone(options, message):
    layer = nn.Conv2d(4, 6, 3)
    with pytest.raises(DOConvError, match=message):
        over_parameterize(layer, **options)
    assert type(layer) is nn.Conv2d


def test_the_spec_is_shown():
    layer = over_parameterize(nn.Conv2d(4, 6, 3), d_mul=12)
    assert composition(layer).spec == Spec(4, 6, (3, 3), 1, 12)
    assert "Composition(kernel_size=(3, 3), d_mul=12)" in repr(layer)
