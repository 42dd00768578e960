"""Schedules of the rate, made before and after wrapping, and the options of D'."""

import pytest
import torch
from torch.optim import SGD, AdamW, lr_scheduler
from twins import difference, network, same_bits, train

from do_conv import DOConvError
from do_conv.torch import DOConvOptimizer, convert, parameter_groups

SHAPE = (3, 8, 8)


def grouped(model, make, options=None):
    """An optimizer with the first layer in a group of its own; with layers, D' as well."""
    groups = [
        {"params": list(model[0].parameters()), "lr": 0.003, "weight_decay": 0},
        {"params": list(model[1:].parameters())},
    ]
    if options is not None:
        groups = parameter_groups(model, groups=groups, delta=options, lr=0.01, weight_decay=0.1)
    return make(groups)


SCHEDULES = {
    "steps": lambda o: lr_scheduler.MultiStepLR(o, [5, 12]),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 20),
    "warm-up": lambda o: lr_scheduler.LinearLR(o, 0.1, total_iters=7),
    "from zero": lambda o: lr_scheduler.LambdaLR(o, lambda step: step / 20),
    "one cycle": lambda o: lr_scheduler.OneCycleLR(o, [0.005, 0.01], total_steps=21),
}


@pytest.mark.parametrize("is_before", [False, True], ids=["after wrapping", "before wrapping"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_schedule_is_that_of_the_layers(schedule, is_before):
    make = lambda groups: SGD(groups, 0.01, momentum=0.9)  # noqa: E731
    model, layers = network(), convert(network())
    inner, expected = grouped(model, make), grouped(layers, make)
    if is_before:
        scheduler = SCHEDULES[schedule](inner)
    optimizer = DOConvOptimizer(inner, model)
    if not is_before:
        scheduler = SCHEDULES[schedule](optimizer)
    other = SCHEDULES[schedule](expected)
    train(model, Scheduled(optimizer, scheduler), SHAPE)
    train(layers, Scheduled(expected, other), SHAPE)
    assert difference(model, optimizer, layers) <= 1e-12
    assert scheduler.get_last_lr() == other.get_last_lr()


class Scheduled:
    """An optimizer with a schedule, for `train`."""

    def __init__(self, optimizer, scheduler):
        self.zero_grad, self.optimizer, self.scheduler = optimizer.zero_grad, optimizer, scheduler

    def step(self):
        self.optimizer.step()
        self.scheduler.step()


@pytest.mark.parametrize("is_before", [False, True], ids=["after wrapping", "before wrapping"])
def test_d_has_options_of_its_own_and_the_schedule_of_its_group(is_before):
    options = {"lr": 0.002, "weight_decay": 0}
    make = lambda groups: AdamW(groups, 0.01, weight_decay=0.1)  # noqa: E731
    model, layers = network(), convert(network())
    inner, expected = grouped(model, make), grouped(layers, make, options)
    schedule = SCHEDULES["warm-up"]
    before = schedule(inner) if is_before else None
    optimizer = DOConvOptimizer(inner, model, depthwise_options=options)
    scheduler = before or schedule(optimizer)
    assert [len(group["params"]) for group in optimizer.param_groups] == [1, 10]
    train(model, Scheduled(optimizer, scheduler), SHAPE)
    train(layers, Scheduled(expected, schedule(expected)), SHAPE)
    assert difference(model, optimizer, layers) <= 1e-12
    assert len(optimizer.param_groups) == 2


def test_a_rate_that_is_a_tensor():
    make = lambda p: AdamW(p, torch.tensor(0.01, dtype=torch.float64), foreach=False)  # noqa: E731
    options = {"lr": torch.tensor(0.002, dtype=torch.float64)}
    model, layers = network(), convert(network())
    optimizer = DOConvOptimizer(make(model.parameters()), model, depthwise_options=options)
    groups = parameter_groups(layers, groups=[{"params": layers.parameters()}], delta=options)
    expected = make(groups)
    for net, inner in ((model, optimizer), (layers, expected)):
        scheduler = lr_scheduler.ExponentialLR(inner, 0.8)
        train(net, Scheduled(inner, scheduler), SHAPE)
    assert difference(model, optimizer, layers) <= 1e-12


def test_the_rate_of_d_is_resumed_with_the_first_rate_of_its_group():
    """Whatever rate the optimizer was made with that loads the state."""
    options = {"lr": 0.002}
    make = lambda net, rate: DOConvOptimizer(  # noqa: E731
        SGD(net.parameters(), rate), net, depthwise_options=options
    )
    model, resumed = network(), network()
    optimizer = make(model, 0.01)
    optimizer.param_groups[0]["lr"] = 0.005  # a schedule by hand
    train(model, optimizer, SHAPE, 2)
    others = make(resumed, 0.005), make(network(), 0.005)
    resumed.load_state_dict(model.state_dict())
    others[0].load_state_dict(optimizer.state_dict())
    for net, its in ((model, optimizer), (resumed, others[0])):
        train(net, its, SHAPE, 2, seed=2)
    assert same_bits(model.state_dict(), resumed.state_dict())
    converted, inner = optimizer.to_layers()
    assert [group["lr"] for group in inner.param_groups] == [0.005, 0.001]
    assert {*inner.param_groups[0]} == {*SGD(converted.parameters(), 1.0).param_groups[0]}


@pytest.mark.parametrize(
    "schedule",
    [
        lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=20),
        lambda o: lr_scheduler.CyclicLR(o, 0.001, 0.1, 5),
    ],
    ids=["one cycle", "cycles"],
)
def test_a_schedule_with_rates_of_its_own_keeps_the_proportion(schedule):
    model = network()
    optimizer = DOConvOptimizer(
        SGD(model.parameters(), 0.1, momentum=0.9), model, depthwise_options={"lr": 0.01}
    )
    scheduler = schedule(optimizer)
    for _ in range(6):
        train(model, optimizer, SHAPE, 1)
        scheduler.step()
    of_weight, of_delta = (group["lr"] for group in optimizer.to_layers()[1].param_groups)
    assert of_weight != 0.1
    assert of_delta == pytest.approx(of_weight / 10, rel=1e-12)


def test_a_state_without_a_first_rate_keeps_that_of_the_optimizer():
    model, options = network(), {"lr": 0.002}
    plain = DOConvOptimizer(SGD(model.parameters(), 0.005), model)
    optimizer = DOConvOptimizer(SGD(model.parameters(), 0.01), model, depthwise_options=options)
    optimizer.load_state_dict(plain.state_dict())
    _, inner = optimizer.to_layers()
    assert [group["lr"] for group in inner.param_groups] == [0.005, 0.001]


REFUSED = {
    "a misspelt name": ({"weight_decy": 0}, r"momentum, .*weight_decay.*; received 'weight_decy'"),
    "a list": (["lr"], "must be a mapping .*; received a list"),
    "a function": (lambda kernel: {}, "must be a mapping .*; received a function"),
    "a negative rate": ({"lr": -0.1}, r"the lr of D' must be zero or positive; received -0\.1"),
    "not a number": ({"weight_decay": float("nan")}, "the weight_decay of D' .*; received nan"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_exception_options_of_d_that_are_none(name):
    options, match = REFUSED[name]
    model = network()
    with pytest.raises(DOConvError, match=match):
        DOConvOptimizer(SGD(model.parameters(), 0.01), model, depthwise_options=options)
