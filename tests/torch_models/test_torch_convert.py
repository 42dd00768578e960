"""Converting whole PyTorch models: what changes, and all that does not."""

import copy
import pickle

import pytest
import torch
from torch import nn

from do_conv import choices
from do_conv import torch as do_torch
from do_conv.torch import (
    DOConv2d,
    DOConvTranspose2d,
    convert,
    fold,
    plan,
)


def kinds(model):
    return [type(module) for module in model.modules()]


def same_state(one, other):
    return list(one) == list(other) and all(torch.equal(one[key], other[key]) for key in one)


def test_the_outputs_are_the_same_bits_and_the_model_is_a_new_one(network, x):
    before, state = network(x), copy.deepcopy(network.state_dict())
    plain_kinds = kinds(network)
    converted = convert(network)
    assert torch.equal(converted(x), before)
    assert kinds(network) == plain_kinds
    for parameter in converted.parameters():
        parameter.data.zero_()
    assert same_state(network.state_dict(), state)


def test_only_convolutions_with_more_than_one_position_change(network):
    names = {name: type(module).__name__ for name, module in convert(network)[0].named_modules()}
    assert names["first"] == names["depthwise"] == names["twice"] == "DOConv2d"
    assert names["up"] == "DOConvTranspose2d"
    assert (names["pointwise"], names["norm"]) == ("Conv2d", "BatchNorm2d")


@pytest.mark.parametrize("layer", [nn.Conv1d(4, 6, 3), nn.ConvTranspose3d(2, 4, 2, stride=2)])
def test_a_bare_layer(layer):
    converted = convert(layer)
    assert isinstance(converted, getattr(do_torch, f"DO{type(layer).__name__}"))
    x = torch.randn(2, layer.in_channels, *[5] * len(layer.kernel_size))
    assert torch.equal(converted(x), layer(x))


def test_in_place_keeps_every_object(network):
    parameters = dict(network.named_parameters(remove_duplicate=False))
    modules = dict(network.named_modules(remove_duplicate=False))
    assert convert(network, inplace=True) is network
    assert dict(network.named_modules(remove_duplicate=False)) == modules
    found = dict(network.named_parameters(remove_duplicate=False))
    assert all(found[name] is parameter for name, parameter in parameters.items())


def test_shared_modules_and_tied_weights_stay_so(network, x, trained):
    converted = convert(network)
    block = converted[0]
    assert block.twice is block.again
    assert block.twice.weight is block.tied.weight
    assert block.twice.depthwise_delta is block.tied.depthwise_delta
    folded = fold(trained(converted))
    assert folded[0].twice.weight is folded[0].tied.weight
    assert torch.equal(folded(x), converted(x))


@pytest.mark.parametrize("d_mul", [None, 8])
def test_a_weight_shared_with_a_layer_that_is_left_stays(d_mul):
    model = nn.ModuleDict({name: nn.Conv2d(4, 4, (1, 3)) for name in ("one", "other", "free")})
    model["other"].weight = model["one"].weight
    for where in (choices.named("one|free"), lambda name, _: name != "other"):
        converted = convert(model, where=where, d_mul=d_mul)
        assert [type(layer).__name__ for layer in converted.values()] == [
            "Conv2d", "Conv2d", "DOConv2d",
        ]  # fmt: skip
        reasons = {row.name: row.reason for row in plan(model, where=where).left}
        assert reasons["one"] == "its weight is shared with a layer that is left"
    both = convert(model, d_mul=d_mul)
    assert both["one"].depthwise_delta is both["other"].depthwise_delta


def test_mode_dtype_and_what_is_trained_stay(network):
    network.double().train()
    network[0].first.weight.requires_grad_(False)
    block = convert(network)[0]
    assert block.first.training
    assert block.first.depthwise_delta.dtype == torch.float64
    assert not block.first.depthwise_delta.requires_grad
    assert block.depthwise.depthwise_delta.requires_grad
    meta = convert(nn.Conv2d(3, 4, 3, device="meta"))
    assert meta.depthwise_delta.is_meta


def test_hooks_stay(network, x):
    seen = []
    network[0].first.register_forward_hook(lambda *_: seen.append("forward"))
    network[0].first.register_forward_pre_hook(lambda *_: seen.append("before"))
    converted = convert(network)
    converted(x)
    fold(converted)(x)
    assert seen == ["before", "forward"] * 2


def test_an_optimizer_keeps_its_state(x):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    model(x).square().mean().backward()
    optimizer.step()
    momentum = optimizer.state[model[0].weight]["momentum_buffer"].clone()
    convert(model, inplace=True)
    new = [p for name, p in model.named_parameters() if name.endswith("depthwise_delta")]
    optimizer.add_param_group({"params": new})
    assert torch.equal(optimizer.state[model[0].weight]["momentum_buffer"], momentum)
    optimizer.zero_grad()
    model(x).square().mean().backward()
    optimizer.step()
    assert all(parameter.abs().max() > 0 for parameter in new)


@pytest.mark.parametrize("d_mul", [None, 18, lambda spec: spec.area + 2])
def test_more_slots(x, d_mul):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(4, 4, 3, groups=2))
    converted = convert(model, d_mul=d_mul)
    assert torch.equal(converted(x), model(x))
    assert converted[0].spec.d_mul == {None: 9, 18: 18}.get(d_mul, 11)
    assert converted[0].depthwise_delta.shape[1] == converted[0].spec.d_mul
    # Slots that neither W nor D' moves at first would never train.
    converted(x).square().mean().backward()
    assert converted[0].depthwise_delta.grad.flatten(2).abs().sum((0, 2)).gt(0).sum() >= 9


def test_a_gradient_of_the_plain_kernel_is_not_left_on_a_weight_of_more_slots(x):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 3))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    model(x).square().mean().backward()
    convert(model, inplace=True, d_mul=18)
    expected = model(x)
    nn.init.zeros_(model[0].bias.grad)
    nn.init.zeros_(model[1].bias.grad)
    optimizer.step()
    assert torch.equal(model(x), expected)


def test_he_start_changes_the_outputs(network, x):
    converted = convert(network, depthwise_init="he")
    assert not torch.allclose(converted(x), network(x))
    assert converted[0].first.depthwise_init == "he"


def test_feature_composition(network, x):
    converted = convert(network, composition="feature")
    assert converted[0].first.composition == "feature"
    torch.testing.assert_close(converted(x), network(x))


def test_lazy_layers(x):
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyConvTranspose2d(2, 3))
    converted = convert(model)
    torch.manual_seed(0)
    found = converted(x)
    assert [type(layer) for layer in converted] == [DOConv2d, DOConvTranspose2d]
    torch.manual_seed(0)
    assert torch.equal(found, model(x))
    assert converted[0].depthwise_delta.shape == (3, 9, 3, 3)


def test_a_checkpoint_of_the_plain_model_loads(network, x):
    converted = convert(network)
    for parameter in converted.parameters():
        nn.init.normal_(parameter)
    converted.load_state_dict(network.state_dict(), strict=True)
    assert torch.equal(converted(x), network(x))


@pytest.mark.parametrize("again", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_of_a_converted_model(network, x, trained, again):
    converted = trained(convert(network))
    assert torch.equal(again(converted)(x), converted(x))


def test_a_lazy_layers_delta_is_trained_if_its_weight_is():
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyConvTranspose2d(4, 3))
    model[0].weight.requires_grad = False
    converted = convert(model)
    converted(torch.zeros(1, 3, 6, 6))
    assert [layer.depthwise_delta.requires_grad for layer in converted] == [False, True]


@pytest.mark.parametrize("fused", [False, True])
def test_an_optimizer_has_no_state_for_a_weight_of_another_shape(x, fused):
    """A step would read it past its end."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
    model[1].weight = nn.Parameter(model[1].weight.detach())
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, fused=fused)

    def step():
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()

    step()
    convert(model, inplace=True, where="0", d_mul=18)
    plain, weight = model[1].weight.detach().clone(), model[0].weight.detach().clone()
    step()
    assert torch.equal(model[0].weight, weight)
    assert not torch.equal(model[1].weight, plain)
    optimizer.add_param_group({"params": [model[0].weight, model[0].depthwise_delta]})
    step()
    assert not torch.equal(model[0].weight, weight)
    fold(model, inplace=True)
    kernel = model[0].weight.detach().clone()
    step()
    assert torch.equal(model[0].weight, kernel)


def test_shared_weights_of_another_shape_stay_shared(x):
    first, second = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=2)
    second.weight = first.weight
    model = convert(nn.Sequential(first, second), inplace=True, d_mul=18)
    assert first.weight is second.weight
    assert first.weight.shape == (3, 3, 18)
    assert fold(model, inplace=True)[0].weight is second.weight
