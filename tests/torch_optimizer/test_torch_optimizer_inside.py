"""Optimizers inside that do more than a step: SAM, schedule-free ones, one around another."""

import copy
from collections import defaultdict

import cpu_torchvision  # noqa: F401  # before timm
import pytest
import torch
from timm.optim import Adahessian, Lookahead
from torch import nn
from torch.optim import SGD, AdamW, Optimizer, RMSprop
from torch.optim.optimizer import register_optimizer_step_pre_hook
from twins import backward, batches, difference, network, same_bits, train, twins

from do_conv import DOConvError
from do_conv.torch import DOConvOptimizer

SHAPE = (3, 8, 8)


class SharpnessAware(Optimizer):
    """SAM (Foret et al., 2021): the gradients of a step are those of the worst point nearby."""

    def __init__(self, params, lr, radius, set_to_none=True):
        super().__init__(params, {"lr": lr, "radius": radius, "momentum": 0.9})
        self.set_to_none = set_to_none
        self.base = SGD(self.param_groups, lr, momentum=0.9)
        self.param_groups = self.base.param_groups

    @torch.no_grad()
    def step(self, closure):
        every = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.stack([p.grad.norm() for p in every]).norm()
        for p in every:
            self.state[p]["before"] = p.clone()
            p.add_(p.grad, alpha=float(self.param_groups[0]["radius"] / norm))
        self.zero_grad(self.set_to_none)
        loss = torch.enable_grad()(closure)()
        for p in every:
            p.copy_(self.state[p]["before"])
        self.base.step()
        self.zero_grad(self.set_to_none)
        return loss


def sharpness_aware(parameters):
    return SharpnessAware(parameters, 0.01, 0.1)


def train_sharpness_aware(net, optimizer, steps=20, seed=1):
    """The optimizer zeroes all gradients itself."""
    losses = []
    for x in batches(net, SHAPE, steps, seed):

        def closure(x=x):
            loss = net(x).square().mean()
            loss.backward()
            return loss

        closure()
        losses.append(optimizer.step(closure).item())
    return losses


@pytest.mark.parametrize("set_to_none", [True, False])
def test_gradients_that_are_read_and_zeroed_before_the_closure(set_to_none):
    make = lambda p: SharpnessAware(p, 0.01, 0.1, set_to_none)  # noqa: E731
    model, optimizer, layers, expected = twins(network(), make)
    losses = train_sharpness_aware(model, optimizer)
    assert losses == pytest.approx(train_sharpness_aware(layers, expected), rel=1e-10)
    assert difference(model, optimizer, layers) <= 1e-12


@pytest.mark.parametrize("inplace", [False, True])
def test_the_state_of_the_one_that_it_is_around_goes_through_the_doors(inplace):
    model, optimizer, layers, expected = twins(network(), sharpness_aware)
    for net, its in ((model, optimizer), (layers, expected)):
        train_sharpness_aware(net, its, 4)
    converted, inner = optimizer.to_layers(inplace=inplace)
    plain, again = DOConvOptimizer.from_layers(inner, converted, inplace=inplace)
    assert inner.base.param_groups is inner.param_groups
    for net, its in ((plain, again), (layers, expected)):
        train_sharpness_aware(net, its, 4, seed=2)
    assert difference(plain, again, layers) <= 1e-12


def test_gradients_that_a_hook_of_the_one_inside_zeroes():
    model, optimizer, layers, expected = twins(network(), lambda p: SGD(p, 0.01, momentum=0.9))
    for net, its, one in ((model, optimizer, optimizer.optimizer), (layers, expected, expected)):
        one.register_step_post_hook(lambda o, args, options: o.zero_grad())
        for x in batches(net, SHAPE):
            backward(net, x)
            its.step()
    assert difference(model, optimizer, layers) <= 1e-12


def halve(optimizer, args, options):
    """A hook before a step."""
    for group in optimizer.param_groups:
        for p in group["params"]:
            if p.grad is not None:
                p.grad.mul_(0.5)


def test_hooks_of_the_one_inside_have_the_gradients_of_w_and_d():
    model, optimizer, layers, expected = twins(network(), lambda p: AdamW(p, 0.01, eps=1e-2))
    for one in (optimizer.optimizer, expected):
        one.register_step_pre_hook(halve)
    train(model, optimizer, SHAPE)
    train(layers, expected, SHAPE)
    assert difference(model, optimizer, layers) <= 1e-12


def test_hooks_of_all_optimizers_are_called_once():
    model, optimizer, layers, expected = twins(network(), lambda p: SGD(p, 0.01, momentum=0.9))
    handle = register_optimizer_step_pre_hook(halve)
    try:
        train(model, optimizer, SHAPE)
        train(layers, expected, SHAPE)
    finally:
        handle.remove()
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


def test_a_method_of_the_one_inside_reads_and_writes_w_and_d():
    model, optimizer, layers, expected = twins(network(), lookahead)
    for net, its in ((model, optimizer), (layers, expected)):
        train(net, its, SHAPE, 3)
        its.sync_lookahead()
        train(net, its, SHAPE, 3)
    assert difference(model, optimizer, layers) <= 1e-12
    assert optimizer.is_second_order is expected.is_second_order


REFUSED = {
    "differentiates once more": (
        Adahessian, {}, "received Adahessian, which differentiates"
    ),
    "averages in its groups": (
        lambda p: Averaged(p, 0.1), {"depthwise_options": {"weight_decay": 0}}, "no averages in"
    ),
    "no groups": (lambda p: nn.Linear(1, 1), {}, "an optimizer of torch.optim, or of the same"),
    "a rate of zero": (
        lambda p: SGD(p, 0.0), {"depthwise_options": {"lr": 0.1}}, "a first rate .* a rate of 0"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_exception_what_cannot_be_inside(name):
    make, options, match = REFUSED[name]
    model = network()
    with pytest.raises(DOConvError, match=match):
        DOConvOptimizer(make(model.parameters()), model, **options)


def test_exception_an_optimizer_that_is_inside_of_another():
    model = network()
    inner = SGD(model.parameters(), 0.1)
    optimizer = DOConvOptimizer(inner, model)
    with pytest.raises(DOConvError, match="a SGD that is inside of another; use the one you have"):
        DOConvOptimizer(inner, model)
    optimizer.to_layers(inplace=True)
    assert DOConvOptimizer.from_layers(inner, model)[1].kernels.keys() == {"0", "3", "5", "7"}


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


def test_a_state_is_a_dictionary_like_others(trained):
    model, optimizer, *_ = trained
    state = optimizer.state
    weight, bias = model[0].weight, model[3].bias
    assert state.pop(bias)["step"] == 3
    assert state.pop(bias, None) is None
    assert not optimizer.state.get(bias)
    state.setdefault(bias, {})["mine"] = 1
    assert optimizer.state[bias] == {"mine": 1}
    with pytest.raises(KeyError):
        state.pop("nothing")
    assert optimizer.state.pop(weight).keys() >= {"weight", "depthwise_delta.exp_avg"}
    assert optimizer.state[weight].keys() == {"weight", "depthwise_delta"}


def test_a_state_that_is_read_before_the_first_step_changes_nothing():
    model = network()
    optimizer = DOConvOptimizer(SGD(model.parameters(), 0.01), model)
    before = optimizer.state_dict()
    assert not optimizer.state
    assert optimizer.state[model[0].weight].keys() == {"weight", "depthwise_delta"}
    assert "momentum_buffer" not in optimizer.state[model[3].bias]
    assert optimizer.state_dict()["state"].keys() == before["state"].keys()


def test_a_state_of_the_innermost_can_be_set():
    model = network()
    optimizer = DOConvOptimizer(lookahead(model.parameters()), model)
    train(model, optimizer, SHAPE, 4)
    bias = model[3].bias
    values = {k: torch.zeros_like(v) for k, v in optimizer.state[bias].items()}
    optimizer.state[bias] = values
    base = optimizer.optimizer._base_optimizer
    assert not any(map(torch.any, base.state[bias].values()))
    optimizer.state.clear()
    optimizer.state[bias] = values
    assert base.state[bias] == values


@pytest.mark.parametrize("shape", [(8,), (8, 3, 9), (3, 8, 3, 3), ()])
def test_exception_a_momentum_of_another_shape(trained, shape):
    """The C loops do not read it; PyTorch says what is wrong."""
    model, optimizer, *_ = trained
    optimizer.state[model[0].weight]["weight.exp_avg"] = torch.zeros(shape, dtype=torch.float64)
    with pytest.raises(RuntimeError, match=r"shape|size"):
        train(model, optimizer, SHAPE, 1)


def test_values_that_are_written_in_place_are_noticed(trained):
    model, optimizer, *_ = trained
    for values in optimizer.state.values():
        for value in values.values():
            value.zero_()
    backward(model, next(batches(model, SHAPE)))
    with pytest.raises(DOConvError, match="layer '0' that was written"):
        optimizer.step()


@pytest.mark.parametrize("make", [lambda p: SGD(p, 0.01), lambda p: RMSprop(p, 0.01)])
@pytest.mark.parametrize("through", ["data", "no_grad"])
def test_exception_a_closure_that_writes_a_kernel(make, through):
    model = network()
    optimizer = DOConvOptimizer(make(model.parameters()), model)

    def closure():
        with torch.no_grad():
            weight = model[0].weight
            (weight.data if through == "data" else weight).clamp_(-0.05, 0.05)
        optimizer.zero_grad()
        backward(model, next(batches(model, SHAPE)))

    with pytest.raises(DOConvError, match="layer '0' that was written"):
        optimizer.step(closure)
    assert model[0].weight.abs().max() <= 0.05


@pytest.mark.parametrize("has_closure", [False, True])
def test_a_frozen_kernel_that_somebody_wrote_stays(has_closure):
    model = network()
    optimizer = DOConvOptimizer(RMSprop(model.parameters(), 0.01), model)
    kernel = model[0].weight.requires_grad_(False)
    with torch.no_grad():
        kernel.mul_(2)
    written = kernel.clone()

    def closure():
        optimizer.zero_grad()
        backward(model, next(batches(model, SHAPE)))

    closure()
    optimizer.step(*[closure] * has_closure)
    assert torch.equal(kernel, written)


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
