"""Training that begins in the optimizer and goes on in layers, and the other way."""

import copy

import cpu_torchvision  # noqa: F401  # before timm
import pytest
import torch
from doors import HALF, SHAPE, assert_same, both_halves, from_layers, to_layers
from timm.optim import Lookahead
from torch import nn
from torch.optim import SGD, Adam, AdamW
from twins import difference, network, parameters_of, train, twins

from do_conv.torch import DOConvOptimizer

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
            assert part.dtype == torch.float32
            assert torch.equal(part, before.float())
            for key, value in inner.state[before].items():
                assert torch.equal(optimizer.optimizer.state[part][key], value.float())
        assert model.get_submodule(layer).weight.dtype == BF16
    train(model, optimizer, SHAPE, 1)


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
    converted, _ = to_layers(model, optimizer)
    plain, its = from_layers(*copy.deepcopy((layers, expected)))
    both_halves(layers, expected)
    assert converted[0].weight is converted[2].weight
    assert converted[0].depthwise_delta is converted[2].depthwise_delta
    assert plain[0].weight is plain[2].weight
    assert_same(converted, layers, tolerance)
    assert difference(plain, its, layers) <= tolerance
