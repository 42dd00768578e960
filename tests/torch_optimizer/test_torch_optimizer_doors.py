"""Training that begins in the optimizer and goes on in layers, and the other way."""

import copy

import cpu_torchvision  # noqa: F401  # before timm
import pytest
import torch
from timm.optim import Lookahead
from torch import nn
from torch.optim import SGD, Adam, AdamW
from twins import difference, network, parameters_of, train, twins

from do_conv.torch import (
    DOConvOptimizer,
    convert,
)

SHAPE = (3, 8, 8)
HALF = 5
OPTIMIZERS = {
    "momentum": (lambda p: SGD(p, 0.01, momentum=0.9, weight_decay=0.01), 1e-12),
    "nesterov": (lambda p: SGD(p, 0.01, momentum=0.9, weight_decay=0.01, nesterov=True), 1e-12),
    "adam": (lambda p: Adam(p, 0.01, weight_decay=0.01), 1e-10),
    "adamw": (lambda p: AdamW(p, 0.01, weight_decay=0.1), 1e-10),
    "fused adamw": (lambda p: AdamW(p, 0.01, weight_decay=0.1, fused=True), 1e-10),
    "lookahead": (lambda p: Lookahead(SGD(p, 0.01, momentum=0.9), k=3), 1e-12),
}
OPTIONS = {
    "identity": {},
    "he": {"depthwise_init": "he"},
    "large d_mul": {"d_mul": 11},
    "some layers": {"where": lambda name, layer: name != "3"},
}


CASES = [
    *((name, "identity") for name in OPTIMIZERS),
    *(("adam", options) for options in OPTIONS if options != "identity"),
]
BF16 = torch.bfloat16


def both_halves(model, optimizer, shape=SHAPE):
    """Train in two halves, as a reference for a change in the middle."""
    train(model, optimizer, shape, HALF)
    train(model, optimizer, shape, HALF, seed=2)


def to_layers(model, optimizer, shape=SHAPE, **options):
    """Train half of the way in the optimizer, and half of it in layers."""
    train(model, optimizer, shape, HALF)
    converted, inner = optimizer.to_layers(**options)
    train(converted, inner, shape, HALF, seed=2)
    return converted, inner


def from_layers(layers, inner, shape=SHAPE, **options):
    """Train half of the way in layers, and half of it in the optimizer."""
    train(layers, inner, shape, HALF)
    model, optimizer = DOConvOptimizer.from_layers(inner, layers, **options)
    train(model, optimizer, shape, HALF, seed=2)
    return model, optimizer


def assert_same(one, other, tolerance):
    """Assert that two models have the same parameters and buffers, of which some have moved."""
    one, other = one.state_dict(), other.state_dict()
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype
        assert (tensor - other[name]).abs().max() <= tolerance, name
    deltas = [
        tensor.abs().max() for name, tensor in one.items() if name.endswith("depthwise_delta")
    ]
    assert min(deltas) > 1e-4


def has_no_trace(model):
    return not any(type(module).__module__.startswith("do_conv") for module in model.modules())


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_training_goes_on_in_layers(name, options, inplace):
    make, tolerance = OPTIMIZERS[name]
    model, optimizer, layers, expected = twins(network(), make, **OPTIONS[options])
    converted, inner = to_layers(model, optimizer, inplace=inplace)
    both_halves(layers, expected)
    assert type(inner) is type(expected)
    assert (converted is model) == (inner is optimizer.optimizer) == inplace
    assert_same(converted, layers, tolerance)


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_training_goes_on_in_the_optimizer(name, options, inplace):
    make, tolerance = OPTIMIZERS[name]
    model, optimizer, layers, inner = twins(network(), make, **OPTIONS[options])
    plain, its = from_layers(layers, inner, inplace=inplace)
    both_halves(model, optimizer)
    assert has_no_trace(plain)
    assert (plain is layers) == (its.optimizer is inner) == inplace
    assert its.kernels.keys() == optimizer.kernels.keys()
    assert_same(its.to_layers()[0], optimizer.to_layers()[0], tolerance)
    assert_same_parameters(plain, model, tolerance)


def assert_same_parameters(one, other, tolerance):
    expected = parameters_of(other)
    for name, parameter in one.named_parameters():
        assert (parameter - expected[name]).abs().max() <= tolerance, name


@pytest.mark.parametrize("name", ["momentum", "adamw"])
def test_a_copy_leaves_the_network_and_the_optimizer_as_they_are(name):
    make, tolerance = OPTIMIZERS[name]
    model, optimizer, layers, expected = twins(network(), make)
    train(model, optimizer, SHAPE, HALF)
    train(layers, expected, SHAPE, HALF)
    for going in (optimizer.to_layers(), DOConvOptimizer.from_layers(expected, layers)):
        train(*going, SHAPE, 3, seed=3)
    train(model, optimizer, SHAPE, HALF, seed=2)
    train(layers, expected, SHAPE, HALF, seed=2)
    assert difference(model, optimizer, layers) <= tolerance


@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_there_and_back_is_equal_to_the_last_bit(name):
    model, optimizer, *_ = twins(network(), OPTIMIZERS[name][0], d_mul=11)
    train(model, optimizer, SHAPE, HALF)
    inner, converted = reversed(optimizer.to_layers())
    plain, its = DOConvOptimizer.from_layers(inner, converted)
    for one, other in ((model, plain), (optimizer, its)):
        torch.testing.assert_close(one.state_dict(), other.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, BF16])
@pytest.mark.parametrize("name", ["momentum", "adamw"])
def test_the_precision_of_layers(name, dtype):
    make = lambda p: AdamW(p, 0.01, eps=1e-4) if name == "adamw" else SGD(p, 0.01, momentum=0.9)  # noqa: E731
    model, optimizer, layers, expected = twins(network(dtype), make)
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    converted, inner = to_layers(model, optimizer)
    both_halves(layers, expected)
    assert {p.dtype for p in converted.parameters()} == {dtype}
    assert all(v.dtype == dtype for s in inner.state.values() for v in s.values() if v.dim())
    assert_same(converted, layers, tolerance)


@pytest.mark.parametrize("name", ["momentum", "adamw"])
def test_layers_in_bfloat16_go_on_in_float32(name):
    """W, D' and the states keep all their bits, and W' is that of W and D'."""
    *_, layers, inner = twins(network(BF16), OPTIMIZERS[name][0])
    train(layers, inner, SHAPE, HALF)
    model, optimizer = DOConvOptimizer.from_layers(inner, layers)
    for layer, kernel in optimizer.kernels.items():
        own = layers.get_submodule(layer)
        for part, before in ((kernel.weight, own.weight), (kernel.delta, own.depthwise_delta)):
            assert part.dtype == torch.float32 and torch.equal(part, before.float())
            for key, value in inner.state[before].items():
                assert torch.equal(optimizer.optimizer.state[part][key], value.float())
        assert model.get_submodule(layer).weight.dtype == BF16
    train(model, optimizer, SHAPE, 1)


def by_layer(model):
    """A group for the first layer, with a rate and a decay of its own, and one for all others."""
    first, *others = [list(layer.parameters(recurse=True)) for layer in model.children()]
    groups = [{"params": first, "lr": 0.02, "weight_decay": 0.1}, {"params": sum(others, [])}]
    return SGD(groups, 0.01, momentum=0.9)


def test_groups_with_options_of_their_own():
    model, layers = network(), convert(network())
    optimizer, expected = DOConvOptimizer(by_layer(model), model), by_layer(layers)
    converted, inner = to_layers(model, optimizer)
    assert [len(group["params"]) for group in inner.param_groups] == [2, 13]
    both_halves(layers, expected)
    assert_same(converted, layers, 1e-12)


def shared():
    """A kernel that two layers share, whose strides differ."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 3, 3, padding=1), nn.Tanh(), nn.Conv2d(3, 3, 3, padding=2, dilation=2),
        nn.Tanh(), nn.Conv2d(3, 4, 3, stride=2),
    ).double()  # fmt: skip
    model[2].weight = model[0].weight
    return model


def test_shared_kernels_stay_shared():
    make, tolerance = OPTIMIZERS["adamw"]
    model, optimizer, layers, expected = twins(shared(), make)
    its = copy.deepcopy((layers, expected))
    converted, inner = to_layers(model, optimizer)
    plain, its = from_layers(*its)
    both_halves(layers, expected)
    assert converted[0].weight is converted[2].weight
    assert converted[0].depthwise_delta is converted[2].depthwise_delta
    assert plain[0].weight is plain[2].weight
    assert_same(converted, layers, tolerance)
    assert difference(plain, its, layers) <= tolerance
