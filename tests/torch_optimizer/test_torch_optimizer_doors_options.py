"""From the optimizer to layers and back: groups, schedules, states, and what is refused."""

import copy
import itertools

import pytest
import torch
from doors import HALF, SHAPE, assert_same, both_halves, from_layers, to_layers
from torch import nn
from torch.nn.utils import prune
from torch.optim import LBFGS, SGD, AdamW
from torch.optim.lr_scheduler import LambdaLR, StepLR
from twins import difference, network, same_bits, train, twins

from do_conv import DOConvError
from do_conv.torch import (
    DepthwiseSeparableConv2d,
    DOConv2d,
    DOConvOptimizer,
    convert,
    fold,
    parameter_groups,
)


def momentum(parameters):
    return SGD(parameters, 0.01, momentum=0.9, weight_decay=0.01)


def adamw(parameters):
    return AdamW(parameters, 0.01, weight_decay=0.1)


def by_layer(model):
    """A group for the first layer, with a rate and a decay of its own, and one for all others."""
    first, *others = [list(layer.parameters()) for layer in model.children()]
    groups = [{"params": first, "lr": 0.02, "weight_decay": 0.1}]
    return SGD([*groups, {"params": itertools.chain(*others)}], 0.01, momentum=0.9)


def test_groups_with_options_of_their_own():
    model, layers = network(), convert(network())
    optimizer, expected = DOConvOptimizer(by_layer(model), model), by_layer(layers)
    converted, inner = to_layers(model, optimizer)
    plain, its = from_layers(*copy.deepcopy((layers, expected)))
    both_halves(layers, expected)
    assert [len(group["params"]) for group in inner.param_groups] == [2, 13]
    assert [len(group["params"]) for group in its.param_groups] == [1, 10]
    assert_same(converted, layers, 1e-12)
    assert difference(plain, its, layers) <= 1e-12


def with_deltas_apart(model, **options):
    groups = parameter_groups(model, delta={"lr": 0.1, "weight_decay": 0}, **options)
    return SGD(groups, 0.05, momentum=0.9, weight_decay=0.01)


@pytest.mark.parametrize("has_schedule", [False, True])
def test_options_of_d_of_its_own(has_schedule):
    """A rate of D' follows the schedule of its group in both."""
    layers, model = convert(network()), network()
    expected = with_deltas_apart(layers)
    inner = SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=0.01)
    options = {"lr": 0.1, "weight_decay": 0}
    optimizer = DOConvOptimizer(inner, model, depthwise_options=options)
    schedules = [StepLR(one, 1, 0.5) for one in (optimizer, expected)] if has_schedule else []
    train(model, optimizer, SHAPE, 3)
    train(layers, expected, SHAPE, 3)
    for schedule in schedules:
        schedule.step()
    converted, its = optimizer.to_layers()
    plain, again = DOConvOptimizer.from_layers(expected, layers)
    assert again.depthwise_options == options
    rates = [[group["lr"] for group in one.param_groups] for one in (its, expected, again)]
    assert rates[0] == rates[1] == [0.05 / (1 + has_schedule), 0.1 / (1 + has_schedule)]
    assert rates[2] == rates[0][:1]
    for going in ((converted, its), (plain, again), (layers, expected)):
        train(*going, SHAPE, 3, seed=2)
    assert_same(converted, layers, 1e-12)
    assert difference(plain, again, layers) <= 1e-12


def test_a_schedule_goes_on_in_place():
    model, optimizer, layers, expected = twins(network(), momentum)
    schedules = [StepLR(one, 1, 0.5) for one in (optimizer, expected)]
    train(model, optimizer, SHAPE, 3)
    train(layers, expected, SHAPE, 3)
    _, inner = optimizer.to_layers(inplace=True)
    for seed in (2, 3):
        for schedule in schedules:
            schedule.step()
        train(model, inner, SHAPE, 3, seed)
        train(layers, expected, SHAPE, 3, seed)
    assert inner.param_groups[0]["lr"] == 0.0025
    assert_same(model, layers, 1e-12)


def test_a_schedule_that_is_made_anew_is_that_of_the_layers():
    """D' has its own first rate in it."""
    halving = lambda one: LambdaLR(one, lambda step: 0.5**step)  # noqa: E731
    layers, model = convert(network()), network()
    expected = with_deltas_apart(layers)
    inner = SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=0.01)
    options = {"lr": 0.1, "weight_decay": 0}
    optimizer = DOConvOptimizer(inner, model, depthwise_options=options)
    for net, its in ((model, optimizer), (layers, expected)):
        schedule = halving(its)
        train(net, its, SHAPE, 3)
        schedule.step()
    converted, its = optimizer.to_layers()
    for net, one in ((converted, its), (layers, expected)):
        schedule = halving(one)
        train(net, one, SHAPE, 3, seed=2)
        schedule.step()
        assert [group["lr"] for group in one.param_groups] == [0.025, 0.05]
    assert_same(converted, layers, 1e-12)


def test_exception_the_groups_that_a_schedule_counts_on_are_not_changed_in_place():
    model, layers = network(), convert(network())
    inner, expected = SGD(model.parameters(), 0.05), with_deltas_apart(layers)
    optimizer = DOConvOptimizer(inner, model, depthwise_options={"lr": 0.1})
    for one in (optimizer, expected):
        StepLR(one, 1, 0.5)
    with pytest.raises(DOConvError, match=r"must keep its groups .*; leave out inplace"):
        optimizer.to_layers(inplace=True)
    with pytest.raises(DOConvError, match=r"must keep its groups .*; leave out inplace"):
        DOConvOptimizer.from_layers(expected, layers, inplace=True)
    assert type(model[0]) is nn.Conv2d
    assert type(layers[0]) is DOConv2d
    train(model, optimizer, SHAPE, 1)
    train(layers, expected, SHAPE, 1)


class OwnForward(DOConv2d):
    def forward(self, input):
        return super().forward(input) + 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda layers, its: setattr(layers[0], "__class__", OwnForward), "OwnForward"),
        (lambda layers, its: its.param_groups[0].update(lr=0), "a rate of 0"),
    ],
)
def test_exception_layers_that_cannot_be_moved_in_place_are_as_they_were(change, message):
    layers = convert(network())
    its = with_deltas_apart(layers)
    train(layers, its, SHAPE, 1)
    change(layers, its)
    kinds = [type(layer) for layer in layers]
    groups = [list(group["params"]) for group in its.param_groups]
    grads = [parameter.grad.clone() for parameter in layers.parameters()]
    with pytest.raises(DOConvError, match=message):
        DOConvOptimizer.from_layers(its, layers, inplace=True)
    assert [type(layer) for layer in layers] == kinds
    assert [list(group["params"]) for group in its.param_groups] == groups
    for parameter, grad in zip(layers.parameters(), grads, strict=True):
        assert torch.equal(parameter.grad, grad)


def test_parameters_beside_the_model_are_in_the_copy_too():
    """A head, or a loss with weights: they are shared, not copied."""
    model, layers, head = network(), convert(network()), nn.Linear(3, 2).double()
    optimizer = DOConvOptimizer(momentum([*model.parameters(), *head.parameters()]), model)
    _, inner = optimizer.to_layers()
    _, its = DOConvOptimizer.from_layers(
        momentum([*layers.parameters(), *head.parameters()]), layers
    )
    for one in (inner, its):
        inside = {p for group in one.param_groups for p in group["params"]}
        assert {*head.parameters()} <= inside
        assert not {*model.parameters(), *layers.parameters()} & inside


def test_the_optimizer_itself_trains_the_layers_that_it_became():
    model, optimizer, layers, expected = twins(network(), adamw)
    train(model, optimizer, SHAPE, HALF)
    optimizer.to_layers(inplace=True)
    train(model, optimizer, SHAPE, HALF, seed=2)
    both_halves(layers, expected)
    assert_same(model, layers, 1e-10)


@pytest.mark.parametrize("named", [False, True])
def test_a_state_that_a_new_optimizer_of_the_layers_loads(named):
    """The parameters of a group are in the order that the converted model has."""
    model, layers = network(), convert(network())
    list_of = lambda net: net.named_parameters() if named else net.parameters()  # noqa: E731
    optimizer = DOConvOptimizer(adamw(list_of(model)), model)
    train(model, optimizer, SHAPE, HALF)
    converted, inner = optimizer.to_layers()
    resumed = adamw(list_of(layers))
    resumed.load_state_dict(copy.deepcopy(inner.state_dict()))
    layers.load_state_dict(converted.state_dict())
    train(layers, resumed, SHAPE, HALF, seed=2)
    train(converted, inner, SHAPE, HALF, seed=2)
    assert same_bits(layers.state_dict(), converted.state_dict())
    if named:
        (group,) = inner.param_groups
        assert group["param_names"] == [name for name, _ in converted.named_parameters()]


def test_memory_formats_and_attributes_of_a_network():
    model = network(torch.float32).to(memory_format=torch.channels_last)
    model[3].weight.requires_grad_(False)
    optimizer = DOConvOptimizer(SGD(model.parameters(), 0.01, momentum=0.9), model)
    train(model.eval(), optimizer, SHAPE, 2)
    converted, _ = optimizer.to_layers()
    assert not converted.training
    assert [p.requires_grad for p in converted[3].parameters()] == [False, True, False]
    for name, parameter in model.named_parameters():
        assert converted.get_parameter(name).stride() == parameter.stride()


def test_a_network_of_one_layer():
    model = nn.Conv2d(3, 4, 3)
    optimizer = DOConvOptimizer(SGD(model.named_parameters(), 0.1), model)
    converted, inner = optimizer.to_layers()
    assert type(converted) is DOConv2d
    assert inner.param_groups[0]["param_names"] == ["weight", "bias", "depthwise_delta"]
    plain, its = DOConvOptimizer.from_layers(inner, converted)
    assert type(plain) is nn.Conv2d
    assert list(its.kernels) == [""]


def test_no_random_number_is_drawn():
    """Dropout goes on as it would have."""
    model = network()
    optimizer = DOConvOptimizer(SGD(model.parameters(), 0.1), model, d_mul=20, depthwise_init="he")
    before = torch.get_rng_state()
    converted, inner = optimizer.to_layers()
    DOConvOptimizer.from_layers(inner, converted)
    assert torch.equal(torch.get_rng_state(), before)


def test_layers_that_are_not_in_the_optimizer_are_folded():
    layers = convert(network(), depthwise_init="he")
    inner = SGD([*layers[3].parameters(), *layers[10].parameters()], 0.1, momentum=0.9)
    expected = fold(layers).state_dict()
    model, optimizer = DOConvOptimizer.from_layers(inner, layers)
    assert list(optimizer.kernels) == ["3"]
    assert same_bits(model.state_dict(), expected)
    train(model, optimizer, SHAPE, 2)
    converted, _ = optimizer.to_layers()
    assert [type(module).__name__ for module in converted][:6:3] == ["Conv2d", "DOConv2d"]


def test_a_kernel_that_somebody_else_has_written_is_refused():
    model, optimizer, *_ = twins(network(), momentum)
    train(model, optimizer, SHAPE, 2)
    with torch.no_grad():
        model[0].weight.mul_(2)
    with pytest.raises(DOConvError, match=r"layer '0' that was written since.*take_weights\(\)"):
        optimizer.to_layers()
    optimizer.take_weights()
    assert torch.equal(optimizer.to_layers()[0][0].weight, model[0].weight)


def without_delta(layers):
    return [p for name, p in layers.named_parameters() if name != "3.depthwise_delta"]


def frozen_delta(layers):
    layers[3].depthwise_delta.requires_grad_(False)
    return layers.parameters()


def pruned(layers):
    prune.random_unstructured(layers[3], "weight", 0.5)
    return layers.parameters()


def separable(layers):
    layers[3] = DepthwiseSeparableConv2d(8, 8, (1, 3)).double()
    return layers.parameters()


def shared_weight(layers):
    layers.append(DOConv2d(8, 8, 3, groups=8).double())
    layers[-1].weight = layers[5].weight
    return layers.parameters()


def folded(layers):
    fold(layers, inplace=True)
    return layers.parameters()


def options_that_differ(layers):
    first, third = layers[0].depthwise_delta, layers[3].depthwise_delta
    others = [p for p in layers.parameters() if p is not first and p is not third]
    return [{"params": others}, {"params": [first], "lr": 0.2}, {"params": [third], "lr": 0.3}]


REFUSED = {
    without_delta: "W and D' of a layer must be in the optimizer together.*layer '3'",
    frozen_delta: "be trained together; received layer '3', of which only one is",
    pruned: "must be a DOConv layer with W and D' as parameters; received layer '3'",
    separable: "received layer '3', a DepthwiseSeparableConv2d; fold the model",
    shared_weight: "must share D'.*layer '5', whose W another layer reads",
    folded: "must hold W and D' of one",
    options_that_differ: r"received lr=0.2 in layer '0' and lr=0.3 in layer '3'",
}


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("change", REFUSED)
def test_layers_that_cannot_go_on_beside_plain_kernels(change, inplace):
    layers = convert(network())
    inner = SGD(change(layers), 0.1, momentum=0.9)
    before, groups = copy.deepcopy(layers.state_dict()), copy.deepcopy(inner.state_dict())
    with pytest.raises(DOConvError, match=REFUSED[change]):
        DOConvOptimizer.from_layers(inner, layers, inplace=inplace)
    assert same_bits(layers.state_dict(), before)
    assert inner.state_dict() == groups


def test_an_optimizer_with_one_state_for_all_is_refused():
    model, layers = network(), convert(network())
    optimizer = DOConvOptimizer(LBFGS(model.parameters()), model)
    with pytest.raises(DOConvError, match="received an LBFGS"):
        optimizer.to_layers()
    with pytest.raises(DOConvError, match="received an LBFGS"):
        DOConvOptimizer.from_layers(LBFGS(layers.parameters()), layers)
