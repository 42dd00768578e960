"""A kernel that somebody else writes is noticed at the next step; nothing is overwritten."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torch.optim import SGD, AdamW
from twins import backward, batches, difference, network, parameters_of, same_bits, train, twins

from do_conv import DOConvError
from do_conv.torch import DOConvOptimizer

SHAPE = (3, 8, 8)


def adamw(parameters):
    return AdamW(parameters, 0.01, weight_decay=0.1)


def load(model):
    other = network(next(model.parameters()).dtype)
    nn.init.normal_(other[3].weight)
    model.load_state_dict(other.state_dict())


def assign(model):
    other = network(next(model.parameters()).dtype)
    with torch.no_grad():
        model[3].weight.set_(nn.init.normal_(other[3].weight).detach().clone())


def write_data(model):
    model[3].weight.data.mul_(2)


def new_data(model):
    model[3].weight.data = model[3].weight.data * 2


def prune_it(model):
    prune.remove(prune.l1_unstructured(model[3], "weight", amount=0.5), "weight")


@torch.no_grad()
def initialise(model):
    nn.init.kaiming_uniform_(model[3].weight)


@torch.no_grad()
def one_value(model):
    one = model[3].weight[5, 2, 0, 1]
    one.copy_(torch.nextafter(one, one + 1))


@torch.no_grad()
def through_numpy(model):
    model[3].weight.detach().view(torch.uint8).numpy()[:] = 0


WRITES = {
    write.__name__: write
    for write in (
        load, assign, write_data, new_data, prune_it, initialise, one_value, through_numpy,
    )
}  # fmt: skip


def everything(model, optimizer):
    """What a step changes, and the gradients."""
    values = {f"model.{name}": value for name, value in parameters_of(model).items()}
    values |= {f"grad.{name}": p.grad.clone() for name, p in model.named_parameters()}
    for number, state in optimizer.state_dict()["state"].items():
        values |= {f"{number}.{key}": value.clone() for key, value in state.items()}
    return values


@pytest.fixture(params=[torch.float64, torch.float32, torch.bfloat16], ids=str)
def trained(request):
    """A network after two steps, with the gradients of a third."""
    model = network(request.param)
    optimizer = DOConvOptimizer(adamw(model.parameters()), model)
    train(model, optimizer, SHAPE, 2)
    backward(model, next(batches(model, SHAPE, seed=2)))
    return model, optimizer


@pytest.mark.parametrize("name", WRITES)
def test_exception_a_kernel_that_somebody_else_wrote(name, trained):
    model, optimizer = trained
    WRITES[name](model)
    before = everything(model, optimizer)
    match = r"layer '[03]' that was written since.*; call take_weights\(\) .* restore_weights\(\)"
    for _ in range(2):
        with pytest.raises(DOConvError, match=match):
            optimizer.step()
        assert same_bits(everything(model, optimizer), before)
    with pytest.raises(DOConvError, match=match):
        optimizer.step(lambda: pytest.fail("evaluated"))
    assert same_bits(everything(model, optimizer), before)


@pytest.mark.parametrize("d_mul", [None, 11])
def test_taking_the_new_weights_is_making_a_new_optimizer(d_mul):
    model, optimizer, *_ = twins(network(), adamw, d_mul=d_mul)
    train(model, optimizer, SHAPE, 2)
    load(model)
    start = parameters_of(model)
    optimizer.take_weights()
    assert same_bits(parameters_of(model), start)
    assert not any(kernel.delta.any() for kernel in optimizer.kernels.values())
    own = {part for kernel in optimizer.kernels.values() for _, part in kernel.parts}
    assert not own & set(optimizer.optimizer.state)
    train(model, optimizer, SHAPE, 2)


def test_taken_weights_train_as_layers_that_start_from_them():
    make = lambda p: SGD(p, 0.01, momentum=0.9)  # noqa: E731
    model = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.Conv2d(8, 4, 3, bias=False)).double()
    optimizer = DOConvOptimizer(make(model.parameters()), model)
    train(model, optimizer, SHAPE, 3)
    with torch.no_grad():
        model[0].weight.mul_(0.9)
    optimizer.take_weights()
    _, _, layers, expected = twins(copy.deepcopy(model), make)
    train(model, optimizer, SHAPE, 3)
    train(layers, expected, SHAPE, 3)
    assert difference(model, optimizer, layers) <= 1e-12


@pytest.mark.parametrize("name", WRITES)
def test_restoring_the_weights_is_as_if_nothing_had_happened(name, trained):
    model, optimizer = trained
    other, expected = copy.deepcopy((model, optimizer))
    WRITES[name](model)
    optimizer.restore_weights()
    if name == "load":  # the rest of the network is not the optimizer's
        kernels = {f"{name}.weight" for name in optimizer.kernels}
        rest = {name: v for name, v in other.state_dict().items() if name not in kernels}
        model.load_state_dict(rest, strict=False)
    for net, inner in ((model, optimizer), (other, expected)):
        train(net, inner, SHAPE, 2, seed=2)
    assert same_bits(parameters_of(model), parameters_of(other))


def test_a_frozen_kernel_may_be_written_until_it_trains():
    model = network()
    model[3].requires_grad_(False)
    optimizer = DOConvOptimizer(adamw(model.parameters()), model)
    initialise(model)
    written = model[3].weight.detach().clone()
    train(model, optimizer, SHAPE, 2)
    assert torch.equal(model[3].weight, written)
    model[3].requires_grad_(True)
    with pytest.raises(DOConvError, match="layer '3' that was written since"):
        train(model, optimizer, SHAPE, 1)


def test_a_write_of_the_same_values_is_none():
    model, optimizer, *_ = twins(network(), adamw)
    train(model, optimizer, SHAPE, 2)
    model.load_state_dict(copy.deepcopy(model.state_dict()))
    new_storage = model[3].weight.data.clone()
    model[3].weight.data = new_storage
    train(model, optimizer, SHAPE, 2)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_in_a_kernel_is_no_foreign_write(bad):
    model, optimizer, *_ = twins(network(), lambda p: SGD(p, 0.01))
    backward(model, next(batches(model, SHAPE)))
    model[3].weight.grad[0, 0] = bad
    optimizer.step()
    assert not model[3].weight.isfinite().all()
    optimizer.step()
    model.load_state_dict(copy.deepcopy(model.state_dict()))
    optimizer.step()
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    optimizer.step()


def test_exception_a_state_of_another_training(trained):
    model, optimizer = trained
    other = network(next(model.parameters()).dtype)
    foreign = DOConvOptimizer(adamw(other.parameters()), other)
    train(other, foreign, SHAPE, 2, seed=5)
    optimizer.load_state_dict(foreign.state_dict())
    before = everything(model, optimizer)
    with pytest.raises(DOConvError, match="or a state of an optimizer for another kernel"):
        optimizer.step()
    assert same_bits(everything(model, optimizer), before)
    optimizer.restore_weights()
    optimizer.step()
    assert not torch.equal(model[3].weight, other[3].weight)
