"""Folding whole PyTorch models: the plain network to the last bit, and no trace of us."""

import copy

import pytest
import torch
from timm.layers import StdConv2d
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrize

from do_conv import DOConvError
from do_conv.torch import (
    DepthwiseSeparableConv2d,
    DOConv2d,
    DOConvTranspose2d,
    LazyDOConv2d,
    convert,
    fold,
    folded_state_dict,
    over_parameterize,
)


def assert_plain(folded, plain):
    """The layer types, names, shapes and attributes of the plain model."""
    assert [type(one) for one in folded.modules()] == [type(one) for one in plain.modules()]
    assert [(n, p.shape) for n, p in folded.state_dict().items()] == [
        (n, p.shape) for n, p in plain.state_dict().items()
    ]
    for one, other in zip(folded.modules(), plain.modules(), strict=True):
        assert vars(one).keys() == vars(other).keys()
    assert repr(folded) == repr(plain)


@pytest.mark.parametrize("d_mul", [None, lambda spec: 2 * spec.area + 1])
def test_the_outputs_to_the_last_bit_and_no_trace(network, x, trained, d_mul):
    converted = trained(convert(network, d_mul=d_mul))
    expected = converted(x)
    folded = fold(converted)
    assert torch.equal(folded(x), expected)
    assert not torch.allclose(folded(x), network(x))
    assert_plain(folded, network)
    assert torch.equal(converted(x), expected)
    folded.load_state_dict(network.state_dict(), strict=True)


def test_training_goes_on_and_stages_are_exact(network, x, trained):
    """Fold, convert again, train, fold: nothing moves between the stages."""
    first = trained(convert(network))
    folded = fold(first)
    second = convert(folded)
    assert torch.equal(second(x), first(x))
    assert torch.equal(fold(second)(x), first(x))


def test_in_place_keeps_every_object(network, x, trained):
    converted = trained(convert(network))
    expected, weight = converted(x), converted[0].first.weight
    assert fold(converted, inplace=True) is converted
    assert converted[0].first.weight is weight
    assert torch.equal(converted(x), expected)
    assert_plain(converted, network)


def test_a_converted_model_inside_a_larger_one(network, x, trained):
    larger = nn.ModuleDict({"backbone": trained(convert(network)), "head": nn.Conv2d(2, 1, 1)})
    folded = fold(larger)
    assert torch.equal(folded["backbone"](x), larger["backbone"](x))
    assert_plain(folded["backbone"], network)


def test_layers_that_share_w_and_not_its_depthwise_kernel(x):
    one, two, three = (DOConv2d(3, 3, 3, depthwise_init="he") for _ in range(3))
    two.weight = three.weight = one.weight
    three.depthwise_delta = one.depthwise_delta
    model = nn.Sequential(one, two, three)
    folded = fold(model)
    assert torch.equal(folded(x), model(x))
    assert folded[0].weight is folded[2].weight
    assert folded[0].weight is not folded[1].weight


def test_layers_of_every_door(x):
    shared = DepthwiseSeparableConv2d(4, 4, 3, padding=1)
    model = nn.Sequential(
        DOConv2d(3, 4, 3, depthwise_init="he"), shared, nn.Sequential(nn.ReLU(), shared),
        over_parameterize(nn.Conv2d(4, 4, 3), depthwise_init="he"),
        LazyDOConv2d(2, 3, depthwise_init="he"),
    )  # fmt: skip
    expected = model(x)
    folded = fold(model)
    torch.testing.assert_close(folded(x), expected)
    assert folded[1] is folded[2][1]
    assert not parametrize.is_parametrized(folded[3])
    assert not any("depthwise_delta" in key for key in folded.state_dict())


@pytest.mark.parametrize("copied", [fold, lambda model: fold(copy.deepcopy(model), inplace=True)])
def test_a_parametrized_layer_stays_where_its_copy_is_folded(copied, x):
    model = nn.Sequential(over_parameterize(nn.Conv2d(3, 4, 3), depthwise_init="he"))
    expected = model(x)
    assert torch.equal(copied(model)(x), expected)
    assert torch.equal(model(x), expected)


def test_a_plain_layer_that_shares_a_weight_stays(x):
    model = nn.ModuleDict(
        {"ours": DOConv2d(3, 4, 3, depthwise_init="he"), "plain": nn.Conv2d(3, 4, 3)}
    )
    model["plain"].weight = model["ours"].weight
    expected = {name: layer(x) for name, layer in model.items()}
    folded = fold(model)
    assert all(torch.equal(folded[name](x), one) for name, one in expected.items())


@pytest.mark.parametrize("trained", [True, False])
def test_what_is_trained_stays_where_a_plain_layer_shares_the_weight(trained):
    model = nn.ModuleDict({"ours": DOConv2d(3, 4, 3), "plain": nn.Conv2d(3, 4, 3)})
    model["plain"].weight = model["ours"].weight.requires_grad_(trained)
    folded = fold(model)
    assert folded["ours"].weight.requires_grad == folded["plain"].weight.requires_grad == trained


def test_a_bare_layer_of_every_door(x):
    for layer in (DOConv2d(3, 4, 3), DepthwiseSeparableConv2d(3, 4, 3)):
        torch.testing.assert_close(fold(layer)(x), layer(x))
    assert type(fold(over_parameterize(nn.Conv2d(3, 4, 3)))) is nn.Conv2d


def test_under_wrappers(network, x, trained, tmp_path):
    converted = trained(convert(network))
    expected = converted(x)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1
    )
    try:
        wrapped = [nn.DataParallel(converted), DistributedDataParallel(copy.deepcopy(converted))]
        wrapped.append(torch.compile(converted, backend="eager"))
        wrapped.append(nn.DataParallel(wrapped[-1]))
        for model in wrapped:
            folded = fold(model)
            assert torch.equal(folded(x), expected)
            assert type(folded) is nn.Sequential
            assert folded.state_dict().keys() == network.state_dict().keys()
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("training", [False, True])
def test_batch_normalisation_is_fused(network, x, trained, training):
    converted = trained(convert(network)).train(training)
    fused = fold(converted, fuse_batchnorm=True)
    assert not fused.training
    assert {one.training for one in converted.modules()} == {training}
    torch.testing.assert_close(fused(x), converted.eval()(x))
    assert not any(isinstance(one, nn.BatchNorm2d) for one in fused.modules())
    assert any(isinstance(one, nn.BatchNorm2d) for one in converted.modules())


def test_exception_nothing_of_ours(network):
    match = (
        "must have a layer with a depthwise kernel; received a Sequential without one; convert it"
    )
    with pytest.raises(DOConvError, match=match):
        fold(network)
    with pytest.raises(DOConvError, match=match):
        fold(fold(convert(network)))


@pytest.mark.parametrize(
    ("name", "named"), [("depthwise_delta", "weight"), ("weight", "weight"), ("bias", "bias")]
)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_exception_what_is_not_finite_leaves_the_model_alone(network, value, name, named):
    converted = convert(network)
    getattr(converted[0].up, name).data[0] = value
    with pytest.raises(DOConvError, match=rf"{named} must be finite to be folded; .*find where"):
        fold(converted, inplace=True)
    assert isinstance(converted[0].first, DOConv2d)
    assert isinstance(fold(converted, check_finite=False), nn.Module)


def test_exception_a_layer_without_parameters():
    with pytest.raises(DOConvError, match="layer 'LazyDOConv2d' without parameters"):
        fold(nn.Sequential(LazyDOConv2d(4, 3)))


@pytest.mark.parametrize(
    "make",
    [
        lambda: DOConv2d(3, 4, 3, depthwise_init="he"),
        lambda: DOConv2d(3, 4, 3, d_mul=11),
        lambda: DOConvTranspose2d(3, 4, 3, depthwise_init="he"),
        lambda: over_parameterize(nn.Conv2d(3, 4, 3), depthwise_init="he"),
        lambda: over_parameterize(nn.Conv2d(3, 4, 3), d_mul=11),
        lambda: convert(StdConv2d(3, 4, 3), depthwise_init="he"),
        lambda: DepthwiseSeparableConv2d(3, 4, 3),
    ],
)
def test_in_place_leaves_no_gradient_of_w(make, x):
    model = nn.Sequential(make())
    model(x).square().mean().backward()
    folded = fold(model, inplace=True)
    weights = [p for name, p in folded.named_parameters() if name.endswith("weight")]
    assert weights
    assert all(weight.grad is None for weight in weights)
    torch.optim.SGD(folded.parameters(), 0.1).step()


def test_a_he_start_leaves_no_gradient_of_the_old_kernel(x):
    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    model(x).square().mean().backward()
    gradient = model[0].weight.grad
    other = nn.Sequential(nn.Conv2d(3, 4, 3))
    other[0].weight.grad = gradient.clone()
    assert convert(model, inplace=True)[0].weight.grad is gradient  # W is the kernel
    assert convert(other, depthwise_init="he", inplace=True)[0].weight.grad is None


class Tripled(DOConv2d):
    def forward(self, x):
        return 3 * super().forward(x)


class Padded(DepthwiseSeparableConv2d):
    def forward(self, x):
        return super().forward(nn.functional.pad(x, (1, 1, 1, 1), "reflect"))


FOLDS = {
    "layer": lambda model: model[0].fold(),
    "network": fold,
    "in place": lambda model: fold(model, inplace=True),
    "state": folded_state_dict,
}


@pytest.mark.parametrize("folding", FOLDS)
@pytest.mark.parametrize("kind", [Tripled, Padded])
def test_exception_a_forward_pass_that_no_plain_layer_has(kind, folding):
    model = nn.Sequential(kind(4, 8, 3))
    pattern = rf"a {kind.__name__}, whose forward\(\) is that of .*derive it from Conv2d and"
    with pytest.raises(DOConvError, match=pattern):
        FOLDS[folding](model)
    assert type(model[0]) is kind


def test_the_remedy_for_a_forward_pass_of_its_own(trained):
    class Own(nn.Conv2d):
        def forward(self, x):
            return 3 * super().forward(x)

    converted, x = trained(convert(nn.Sequential(Own(4, 8, 3)))), torch.randn(2, 4, 6, 6)
    folded = fold(converted)
    assert type(folded[0]) is Own
    assert torch.equal(folded(x), converted(x))
