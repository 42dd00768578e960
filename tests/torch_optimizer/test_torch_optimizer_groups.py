"""What training loops do with an optimizer: groups, frozen and shared kernels, hooks."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW
from twins import (
    backward,
    batches,
    difference,
    network,
    parameters_of,
    same_bits,
    train,
    twins,
)

from do_conv import DOConvError
from do_conv.torch import DOConvOptimizer, convert

SHAPE = (3, 8, 8)


def momentum(parameters):
    return SGD(parameters, 0.01, momentum=0.9, weight_decay=0.01)


def adamw(parameters):
    return AdamW(parameters, 0.01, weight_decay=0.1)


@pytest.mark.parametrize("make", [momentum, adamw])
def test_frozen_kernels_keep_their_bits_and_train_once_they_are_not(make):
    model, optimizer, layers, expected = twins(network(), make)
    start = parameters_of(model)
    for net in (model, layers):
        net[3].requires_grad_(False)
    train(model, optimizer, SHAPE, 5)
    train(layers, expected, SHAPE, 5)
    assert difference(model, optimizer, layers) <= 1e-12
    assert torch.equal(model[3].weight, start["3.weight"])
    for net in (model, layers):
        net[3].requires_grad_(True)
    train(model, optimizer, SHAPE, 5)
    train(layers, expected, SHAPE, 5)
    assert difference(model, optimizer, layers) <= 1e-12
    assert not torch.equal(model[3].weight, start["3.weight"])


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.heads = nn.ModuleList([nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)])
        self.turn = 0

    def forward(self, x):
        self.turn += 1
        return self.heads[self.turn // 4 % 2](x)


@pytest.mark.parametrize("set_to_none", [True, False])
@pytest.mark.parametrize("make", [momentum, adamw])
def test_kernels_without_a_gradient_in_a_step(make, set_to_none):
    torch.manual_seed(0)
    model, optimizer, layers, expected = twins(TwoHeads().double(), make)
    start = parameters_of(model)
    for net, inner in ((model, optimizer), (layers, expected)):
        for x in batches(net, SHAPE, 6):
            inner.zero_grad(set_to_none=set_to_none)
            backward(net, x)
            inner.step()
    assert difference(model, optimizer, layers) <= 1e-12
    assert not any(torch.equal(p, start[name]) for name, p in model.named_parameters())


def test_zero_grad_frees_the_gradients_and_a_step_keeps_them():
    model, optimizer, *_ = twins(network(), momentum)
    backward(model, next(batches(model, SHAPE)))
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    optimizer.step()
    assert same_bits({name: p.grad for name, p in model.named_parameters()}, gradients)
    assert all(k.weight.grad is None and k.delta.grad is None for k in optimizer.kernels.values())
    optimizer.zero_grad()
    assert all(p.grad is None for p in model.parameters())


def tied():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 3, 3, padding=1), nn.Tanh(), nn.Conv2d(3, 3, 3, padding=1), nn.Tanh()
    )
    model[2].weight = model[0].weight
    return model.append(model[0]).double()


@pytest.mark.parametrize("d_mul", [None, 11])
def test_a_kernel_that_layers_share_has_one_w_and_d(d_mul):
    model, optimizer, layers, expected = twins(tied(), momentum, d_mul=d_mul)
    assert list(optimizer.kernels) == ["0"]
    train(model, optimizer, SHAPE)
    train(layers, expected, SHAPE)
    assert difference(model, optimizer, layers) <= 1e-12


def test_groups_with_their_own_options():
    make = lambda groups: AdamW(groups, 0.01, weight_decay=0.1)  # noqa: E731
    model, layers = network(), convert(network())

    def grouped(net):
        first = {"params": list(net[0].parameters()), "lr": 0.003, "weight_decay": 0}
        return make([first, {"params": list(net[1:].parameters())}])

    optimizer = DOConvOptimizer(grouped(model), model)
    assert optimizer.param_groups is optimizer.optimizer.param_groups
    train(model, optimizer, SHAPE)
    train(layers, grouped(layers), SHAPE)
    assert difference(model, optimizer, layers) <= 1e-12


def test_groups_that_are_added_have_w_and_d_for_their_kernels():
    model, layers = network(), convert(network())
    optimizer = DOConvOptimizer(momentum(model[:4].parameters()), model)
    expected = momentum(layers[:4].parameters())
    assert list(optimizer.kernels) == ["0", "3"]
    for net, inner in ((model, optimizer), (layers, expected)):
        train(net, inner, SHAPE, 5)
        inner.add_param_group({"params": list(net[4:].parameters()), "lr": 0.003})
        train(net, inner, SHAPE, 5, seed=2)
    assert list(optimizer.kernels) == ["0", "3", "5", "7"]
    assert difference(model, optimizer, layers) <= 1e-12


def test_parameters_of_other_models_and_kernels_that_are_not_in_the_optimizer():
    model, other = network(), nn.Conv2d(3, 4, 3).double()
    start = parameters_of(model)
    optimizer = DOConvOptimizer(momentum([*model[3].parameters(), *other.parameters()]), model)
    assert list(optimizer.kernels) == ["3"]
    train(model, optimizer, SHAPE, 2)
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, start[n])}
    assert changed == {"3.weight", "3.bias"}


@pytest.mark.parametrize("options", [None, {"weight_decay": 0}])
def test_named_parameters(options):
    def groups(net):
        return [
            {"params": list(net[:4].named_parameters()), "lr": 0.003},
            {"params": list(net[4:].named_parameters())},
        ]

    model = network()
    names = [name for group in groups(model) for name, _ in group["params"]]
    optimizer = DOConvOptimizer(momentum(groups(model)), model, depthwise_options=options)
    train(model, optimizer, SHAPE, 3)
    assert [n for group in optimizer.param_groups for n in group["param_names"]] == names
    state = optimizer.state_dict()
    assert [n for group in state["param_groups"] for n in group["param_names"]] == names
    again = network()
    resumed = DOConvOptimizer(momentum(groups(again)), again, depthwise_options=options)
    again.load_state_dict(model.state_dict())
    resumed.load_state_dict(copy.deepcopy(state))
    assert [n for group in resumed.param_groups for n in group["param_names"]] == names
    for net, inner in ((model, optimizer), (again, resumed)):
        train(net, inner, SHAPE, 3, seed=2)
    assert same_bits(parameters_of(model), parameters_of(again))


def test_hooks_of_a_step_and_of_the_state():
    model, optimizer, *_ = twins(network(), momentum)
    seen = []
    optimizer.register_step_pre_hook(lambda o, args, options: seen.append(("before", o)))
    optimizer.register_step_post_hook(lambda o, args, options: seen.append(("after", o)))
    train(model, optimizer, SHAPE, 1)
    assert seen == [("before", optimizer), ("after", optimizer)]
    optimizer.register_state_dict_pre_hook(lambda o: seen.append("state"))
    optimizer.register_state_dict_post_hook(lambda o, state: {**state, "epoch": 3})
    optimizer.register_load_state_dict_pre_hook(lambda o, s: seen.append(s["epoch"]))
    optimizer.register_load_state_dict_post_hook(lambda o: seen.append("loaded"))
    optimizer.load_state_dict(optimizer.state_dict())
    assert seen[2:] == ["state", 3, "loaded"]


def test_exception_the_optimizer_inside_cannot_do_it():
    model = network()
    optimizer = DOConvOptimizer(momentum(model.parameters()), model)
    with pytest.raises(DOConvError, match=r"must hold another kind .*; use the one you have"):
        DOConvOptimizer(optimizer, model)
    inner = torch.optim.LBFGS(model.parameters())
    with pytest.raises(DOConvError, match=r"needs an optimizer with groups .* LBFGS"):
        DOConvOptimizer(inner, model, depthwise_options={"lr": 0.1})
