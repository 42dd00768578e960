"""An optimizer that has trained before it is wrapped, and steps at rates that are not usual."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import ASGD, LBFGS, SGD, Adafactor, Adam, Optimizer, Rprop
from torch.optim.lr_scheduler import PolynomialLR
from twins import difference, network, train, twins

from do_conv import DOConvError
from do_conv.torch import DOConvOptimizer, convert, fold

SHAPE = (8, 8, 8)


def in_channels_last():
    torch.manual_seed(0)
    layers = nn.Conv2d(8, 16, 3), nn.Tanh(), nn.Conv2d(16, 8, 3)
    return nn.Sequential(*layers).double().to(memory_format=torch.channels_last)


MAKERS = {
    "sgd": lambda p: SGD(p, 0.05, momentum=0.9),
    "adam": lambda p: Adam(p, 0.01),
}


@pytest.mark.parametrize("name", MAKERS)
def test_states_in_channels_last_go_on_beside_a_contiguous_w(name):
    model = in_channels_last()
    plain = MAKERS[name](model.parameters())
    train(model, plain, SHAPE, 3)
    model.to(memory_format=torch.contiguous_format)  # the C loops take it now
    layers = convert(copy.deepcopy(model))
    expected = MAKERS[name](layers.parameters())
    named = dict(layers.named_parameters())
    for key, parameter in model.named_parameters():
        expected.state[named[key]] = copy.deepcopy(plain.state[parameter])
    optimizer = DOConvOptimizer(plain, model)
    train(model, optimizer, SHAPE, 3)
    train(layers, expected, SHAPE, 3)
    assert difference(model, optimizer, layers) <= 1e-12


@pytest.mark.parametrize("name", MAKERS)
def test_states_of_layers_in_channels_last_go_on_without_them(name):
    layers = convert(in_channels_last())
    inner = MAKERS[name](layers.parameters())
    train(layers, inner, SHAPE, 3)
    model, optimizer = DOConvOptimizer.from_layers(inner, layers)
    model.to(memory_format=torch.contiguous_format)
    train(layers, inner, SHAPE, 3)
    train(model, optimizer, SHAPE, 3)
    assert difference(model, optimizer, layers) <= 1e-12


class WithoutRate(Optimizer):
    """It takes no rate for one of its own, as some versions of Adafactor do."""

    def __init__(self, params):
        super().__init__(params, {"lr": None})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.sub_(parameter.grad, alpha=0.05)


UNUSUAL = {
    "no rate": (WithoutRate, None),
    "Rprop at a rate of zero": (lambda p: Rprop(p, 0.01), lambda its: PolynomialLR(its, 5)),
    "ASGD at a rate of zero": (lambda p: ASGD(p, 0.05), lambda its: PolynomialLR(its, 5)),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_a_step_that_moves_at_a_rate_of_zero_or_without_one_writes_the_kernels(name):
    make, schedule = UNUSUAL[name]
    model, optimizer, layers, expected = twins(network(), make)
    schedules = [] if schedule is None else [schedule(its) for its in (optimizer, expected)]
    for seed in range(8):
        train(model, optimizer, (3, 8, 8), 1, seed)
        train(layers, expected, (3, 8, 8), 1, seed)
        for one in schedules:
            one.step()
    assert difference(model, optimizer, layers) <= 1e-10


@pytest.mark.filterwarnings("ignore:Complex modules are a new feature:UserWarning")
def test_complex_kernels_are_trained_as_their_layers():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 2, groups=2)).to(torch.complex128)
    model, optimizer, layers, expected = twins(model, lambda p: SGD(p, 0.05, momentum=0.9))
    x = torch.randn(2, 3, 8, 8, dtype=torch.complex128)
    for _ in range(10):
        for one, its in ((model, optimizer), (layers, expected)):
            its.zero_grad()
            (one(x) - 1).abs().square().mean().backward()
            its.step()
    assert difference(model, optimizer, layers) <= 1e-12


def test_defaults_that_groups_lack_do_not_keep_layers_from_going_on():
    layers = convert(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)).double())
    inner = Adafactor(layers.parameters(), lr=0.01)
    train(layers, inner, (3, 8, 8), 2)
    model, optimizer = DOConvOptimizer.from_layers(inner, layers)
    train(layers, inner, (3, 8, 8), 2)
    train(model, optimizer, (3, 8, 8), 2)
    for one, other in zip(model.parameters(), fold(layers).parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


def test_exception_an_lbfgs_that_has_stepped_and_what_is_no_optimizer():
    model = nn.Sequential(nn.Conv2d(3, 8, 3))
    stepped = LBFGS(model.parameters(), max_iter=1)
    stepped.step(lambda: (model(torch.ones(1, 3, 8, 8)) - 1).square().mean())
    with pytest.raises(DOConvError, match="an LBFGS that has stepped"):
        DOConvOptimizer(stepped, model)
    for given, found in ((model, "a Sequential"), (SGD, "a type")):
        with pytest.raises(DOConvError, match=f"received {found}; give the optimizer first"):
            DOConvOptimizer(given, model)
