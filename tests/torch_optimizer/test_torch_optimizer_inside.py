"""Optimizers inside that do more than a step: SAM, schedule-free ones, one around another."""

import copy
from collections import defaultdict

import cpu_torchvision  # noqa: F401  # before timm
import pytest
import torch
from timm.optim import Lookahead
from torch.optim import SGD, AdamW, Optimizer
from twins import backward, batches, difference, network, same_bits, train, twins

from do_conv import DOConvError
from do_conv.torch import DOConvOptimizer

SHAPE = (3, 8, 8)


class SharpnessAware(Optimizer):
    """SAM (Foret et al., 2021): the gradients of a step are those of the worst point nearby."""

    def __init__(self, params, lr, radius):
        super().__init__(params, {"lr": lr, "radius": radius, "momentum": 0.9})
        self.base = SGD(self.param_groups, lr, momentum=0.9)
        self.param_groups = self.base.param_groups

    @torch.no_grad()
    def step(self, closure):
        every = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.stack([p.grad.norm() for p in every]).norm()
        for p in every:
            self.state[p]["before"] = p.clone()
            p.add_(p.grad, alpha=float(self.param_groups[0]["radius"] / norm))
        self.zero_grad()
        loss = torch.enable_grad()(closure)()
        for p in every:
            p.copy_(self.state[p]["before"])
        self.base.step()
        self.zero_grad()
        return loss


def test_gradients_that_are_read_before_the_closure():
    model, optimizer, layers, expected = twins(network(), lambda p: SharpnessAware(p, 0.01, 0.1))
    losses = [[], []]
    for net, inner, found in ((model, optimizer, losses[0]), (layers, expected, losses[1])):
        for x in batches(net, SHAPE):

            def closure(net=net, x=x):
                loss = net(x).square().mean()
                loss.backward()
                return loss

            inner.zero_grad()
            closure()
            found.append(inner.step(closure).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-10)
    assert difference(model, optimizer, layers) <= 1e-12


class Averaged(SGD):
    """SGD that swaps the parameters and their average, as schedule-free optimizers do."""

    def step(self, closure=None):
        loss = super().step(closure)
        for p in self._all():
            average = self.state[p].setdefault("average", p.detach().clone())
            average.lerp_(p.detach(), 0.3)
        return loss

    def eval(self):
        for p in self._all():
            state = self.state[p]
            state["kept"] = p.clone()
            p.copy_(state["average"])

    def train(self):
        for p in self._all():
            p.copy_(self.state[p].pop("kept"))

    def _all(self):
        return [p for group in self.param_groups for p in group["params"]]


def test_parameters_that_are_swapped_for_evaluation_and_back():
    make = lambda p: Averaged(p, 0.01, momentum=0.9)  # noqa: E731
    model, optimizer, layers, expected = twins(network(), make)
    for inner, net in ((optimizer, model), (expected, layers)):
        train(net, inner, SHAPE, 5)
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        expected.eval()
    optimizer.eval()
    assert difference(model, optimizer, layers) <= 1e-12
    assert not torch.equal(model[0].weight, before["0.weight"])
    with torch.no_grad():
        expected.train()
    optimizer.train()
    assert same_bits(model.state_dict(), before)
    for inner, net in ((optimizer, model), (expected, layers)):
        train(net, inner, SHAPE, 5, seed=2)
    assert difference(model, optimizer, layers) <= 1e-12
    with torch.no_grad():
        model[0].weight.mul_(2)
    with pytest.raises(DOConvError, match="layer '0' that was written"):
        optimizer.eval()


def test_an_optimizer_that_swaps_nothing_has_no_methods_for_it():
    model = network()
    optimizer = DOConvOptimizer(SGD(model.parameters(), 0.1), model)
    assert not hasattr(optimizer, "train")
    assert not hasattr(optimizer, "eval")


def lookahead(parameters):
    return Lookahead(AdamW(parameters, 0.01, eps=1e-4), alpha=0.5, k=2)


def test_one_around_another_that_has_trained_goes_on_with_its_state():
    """The state is that of the innermost."""
    model = network()
    inner = lookahead(model.parameters())
    train(model, inner, SHAPE, 3)
    optimizer = DOConvOptimizer(inner, model)
    kernel = optimizer.kernels["0"]
    state = inner._base_optimizer.state[kernel.weight]
    assert state["step"] == 3
    assert "weight.lookahead_slow_buff" in optimizer.state[model[0].weight]
    optimizer.take_weights()
    assert not inner._base_optimizer.state[kernel.weight]


def test_one_around_ours_that_writes_a_state_beside_that_of_w_and_d_is_refused():
    model = network()
    outer = Lookahead(DOConvOptimizer(SGD(model.parameters(), 0.01), model), k=2)
    train(model, outer, SHAPE, 1)
    with pytest.raises(DOConvError, match=r"'lookahead_slow_buff' for layer '0'.* inside of DOC"):
        train(model, outer, SHAPE, 1)


@pytest.fixture
def trained():
    model, optimizer, layers, expected = twins(network(), lambda p: AdamW(p, 0.01))
    train(model, optimizer, SHAPE, 3)
    train(layers, expected, SHAPE, 3)
    return model, optimizer, layers, expected


def test_a_state_that_is_cleared_begins_anew(trained):
    model, optimizer, layers, expected = trained
    optimizer.state.clear()
    expected.state.clear()
    assert optimizer.state[model[0].weight].keys() == {"weight", "depthwise_delta"}
    train(model, optimizer, SHAPE, 3)
    train(layers, expected, SHAPE, 3)
    assert difference(model, optimizer, layers) <= 1e-12


def test_a_state_that_is_replaced_begins_anew(trained):
    model, optimizer, layers, expected = trained
    optimizer.state, expected.state = {}, defaultdict(dict)
    train(model, optimizer, SHAPE, 3)
    train(layers, expected, SHAPE, 3)
    assert difference(model, optimizer, layers) <= 1e-12


def test_entries_of_a_state_can_be_set_and_removed(trained):
    model, optimizer, layers, expected = trained
    weight, bias = model[0].weight, model[3].bias
    state = optimizer.state[weight]
    state["weight.exp_avg"] = torch.zeros_like(weight)
    state["depthwise_delta.step"] = torch.tensor(1.0)
    optimizer.state[bias]["exp_avg"].zero_()
    del optimizer.state[model[5].weight]
    kernel = optimizer.kernels["0"]
    assert not optimizer.optimizer.state[kernel.weight]["exp_avg"].any()
    expected.state[layers[0].weight]["exp_avg"].zero_()
    expected.state[layers[0].depthwise_delta]["step"].fill_(1)
    expected.state[layers[3].bias]["exp_avg"].zero_()
    for part in (layers[5].weight, layers[5].depthwise_delta):
        del expected.state[part]
    train(model, optimizer, SHAPE, 3)
    train(layers, expected, SHAPE, 3)
    assert difference(model, optimizer, layers) <= 1e-12


def test_a_state_goes_there_and_back(trained):
    """As trainers do that bring it to another device, entry by entry."""
    model, optimizer, layers, expected = trained
    assert type(copy.deepcopy(optimizer.state)) is dict
    for parameter, values in optimizer.state.items():
        copied = {k: v.clone() if torch.is_tensor(v) else v for k, v in values.items()}
        optimizer.state[parameter] = type(values)(copied)
    train(model, optimizer, SHAPE, 3)
    train(layers, expected, SHAPE, 3)
    assert difference(model, optimizer, layers) <= 1e-12


def test_w_that_is_set_in_a_state_belongs_to_another_kernel(trained):
    model, optimizer, *_ = trained
    state = optimizer.state[model[0].weight]
    state["weight"] = 2 * state["weight"]
    backward(model, next(batches(model, SHAPE)))
    with pytest.raises(DOConvError, match="layer '0' that was written"):
        optimizer.step()
    before = model[0].weight.detach().clone()
    optimizer.restore_weights()
    torch.testing.assert_close(model[0].weight, 2 * before, rtol=1e-12, atol=0)
