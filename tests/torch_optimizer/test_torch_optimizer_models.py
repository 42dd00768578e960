"""Copies, moves, memory formats, compiled models, and models that are refused."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adagrad, AdamW, lr_scheduler
from torch.utils._python_dispatch import TorchDispatchMode
from twins import backward, batches, difference, network, parameters_of, same_bits, train, twins

from do_conv import DOConvError
from do_conv.torch import DOConv2d, DOConvOptimizer, convert, plan

SHAPE = (3, 8, 8)


def momentum(parameters):
    return SGD(parameters, 0.01, momentum=0.9, weight_decay=0.01)


def made(dtype=torch.float32, **options):
    model = network(dtype)
    return model, DOConvOptimizer(momentum(model.parameters()), model, **options)


def unpickled(both):
    return pickle.loads(pickle.dumps(both))


def saved(both):
    file = io.BytesIO()
    torch.save(both, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("has_schedule", [False, True])
@pytest.mark.parametrize("make_copy", [copy.deepcopy, unpickled, saved])
def test_a_copy_of_model_and_optimizer_trains_on_alone(make_copy, has_schedule):
    model, optimizer = made(d_mul=11, depthwise_options={"lr": 0.002})
    if has_schedule:
        lr_scheduler.StepLR(optimizer, 2)
    train(model, optimizer, SHAPE, 2)
    other, others = make_copy((model, optimizer))
    kernel = others.kernels["3"]
    assert kernel.parameter is other[3].weight
    assert {id(p) for p in others.param_groups[0]["params"]} == {id(p) for p in other.parameters()}
    before = parameters_of(model)
    train(other, others, SHAPE, 2, seed=2)
    assert same_bits(parameters_of(model), before)
    train(model, optimizer, SHAPE, 2, seed=2)
    assert same_bits(parameters_of(model), parameters_of(other))
    assert not same_bits(parameters_of(model), before)


def test_its_text_names_the_optimizer_inside():
    model, optimizer = made()
    assert [row.name for row in plan(model, door="optimizer").converted] == list(optimizer.kernels)
    text = repr(optimizer)
    assert text.startswith("DOConvOptimizer(SGD (")
    assert "lr: 0.01" in text
    assert text.endswith(", 4 kernels)")


@pytest.mark.parametrize("move", [nn.Module.double, nn.Module.half, nn.Module.bfloat16])
def test_exception_a_model_of_another_dtype_since(move):
    model, optimizer = made()
    train(model, optimizer, SHAPE, 2)
    move(model)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = parameters_of(model)
    match = r"keep the device and the dtype .*on cpu in .*on cpu in float32; move the model first"
    for call in (optimizer.step, optimizer.take_weights, optimizer.restore_weights, optimizer.step):
        with pytest.raises(DOConvError, match=match):
            call()
    assert same_bits(parameters_of(model), before)


def test_exception_a_model_in_bfloat16_that_is_float32_since():
    """W and D' are in float32 already."""
    model, optimizer = made(torch.bfloat16)
    train(model, optimizer, SHAPE, 2)
    model.float()
    with pytest.raises(DOConvError, match=r"on cpu in float32, which was on cpu in bfloat16"):
        train(model, optimizer, SHAPE, 1)


@pytest.mark.parametrize("options", [{}, {"d_mul": 11}, {"depthwise_init": "he"}])
def test_channels_last_kernels_keep_their_strides_and_train_the_same(options):
    model, optimizer, layers, expected = twins(
        network().to(memory_format=torch.channels_last), momentum, **options
    )
    strides = {name: p.stride() for name, p in model.named_parameters()}
    assert not model[0].weight.is_contiguous()
    train(model, optimizer, SHAPE)
    train(layers, expected, SHAPE)
    assert {name: p.stride() for name, p in model.named_parameters()} == strides
    assert difference(model, optimizer, layers) <= 1e-12


def test_a_model_that_becomes_channels_last_afterwards_trains_on():
    model, optimizer, layers, expected = twins(network(), momentum)
    train(model, optimizer, SHAPE, 2)
    train(layers, expected, SHAPE, 2)
    model.to(memory_format=torch.channels_last)
    train(model, optimizer, SHAPE, 2, seed=2)
    train(layers, expected, SHAPE, 2, seed=2)
    assert not model[0].weight.is_contiguous()
    assert difference(model, optimizer, layers) <= 1e-12


def test_the_network_stays_plain():
    model, optimizer = made()
    plain = network(torch.float32)
    train(model, optimizer, SHAPE, 2)
    assert repr(model) == repr(plain)
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert {id(p) for p in model.parameters()} == {
        id(p) for group in optimizer.param_groups for p in group["params"]
    }


class Operators(TorchDispatchMode):
    """The operators that are called, in their order."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(str(function))
        return function(*args, **(kwargs or {}))


def operators_of(model, is_training):
    model.train(is_training)
    with Operators() as called:
        out = model(torch.ones(2, *SHAPE))
        if is_training:
            out.sum().backward()
    return called.names


@pytest.mark.parametrize("is_training", [False, True])
def test_between_steps_the_operators_are_those_of_the_plain_network(is_training):
    model, optimizer = made()
    train(model, optimizer, SHAPE, 2)
    optimizer.zero_grad()
    expected = operators_of(network(torch.float32), is_training)
    assert "aten.convolution.default" in expected
    assert operators_of(model, is_training) == expected
    assert operators_of(convert(network(torch.float32)), is_training) != expected


def test_a_compiled_model_trains_the_same():
    def small():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Conv2d(4, 2, 3)).double()

    model, optimizer, layers, expected = twins(small(), momentum)
    wrapped = torch.compile(model, backend="aot_eager")
    other = DOConvOptimizer(momentum(wrapped.parameters()), wrapped)
    assert list(other.kernels) == list(optimizer.kernels) == ["0", "2"]
    train(wrapped, other, SHAPE, 5)
    train(layers, expected, SHAPE, 5)
    assert difference(model, other, layers) <= 1e-12


def lazy():
    return nn.Sequential(nn.LazyConv2d(4, 3), nn.Conv2d(4, 4, 3))


def test_exception_a_lazy_model_and_it_trains_once_its_sizes_are_known():
    model = lazy()
    with pytest.raises(DOConvError, match="0"):
        DOConvOptimizer(momentum(model.parameters()), model)
    model(torch.zeros(1, *SHAPE))
    optimizer = DOConvOptimizer(momentum(model.parameters()), model)
    assert list(optimizer.kernels) == ["0", "1"]
    train(model, optimizer, SHAPE, 2)


@pytest.mark.parametrize(
    "model", [nn.Sequential(nn.Linear(3, 3)), nn.Conv2d(3, 4, 1), convert(network())]
)
def test_exception_an_optimizer_without_kernels_of_the_model(model):
    with pytest.raises(DOConvError, match="a convolution that can be converted"):
        DOConvOptimizer(momentum(model.parameters()), model)
    match = r"must hold a kernel of the model .*; received a SGD without one; .*plan\(model\)"
    with pytest.raises(DOConvError, match=match):
        DOConvOptimizer(momentum(network().parameters()), network())


def test_exception_wrong_options_change_nothing():
    model = network()
    start = parameters_of(model)
    inner = AdamW(model.parameters(), 0.01)
    for options in ({"d_mul": 8}, {"depthwise_init": "zero"}, {"where": 3}):
        with pytest.raises(DOConvError):
            DOConvOptimizer(inner, model, **options)
    with pytest.raises(DOConvError, match=r"torch.nn.Module"):
        DOConvOptimizer(inner, model.state_dict())
    assert same_bits(parameters_of(model), start)
    assert len(inner.param_groups[0]["params"]) == 11


def test_exception_a_kernel_of_other_sizes():
    model = nn.Sequential(nn.Conv2d(3, 64, 3))
    optimizer = DOConvOptimizer(momentum(model.parameters()), model)
    model[0].weight.data = model[0].weight.data.sum(1, keepdim=True)
    model(torch.randn(2, 1, 6, 6)).sum().backward()
    with pytest.raises(DOConvError, match=r"layer '0' must have shape \(64, 3, 3, 3\); received"):
        optimizer.step()


@pytest.mark.parametrize(
    "change", [lambda w: w.sum(1, keepdim=True), lambda w: w[:2], lambda w: w[..., :1]]
)
@pytest.mark.parametrize("make", [momentum, lambda p: AdamW(p, 0.01), lambda p: Adagrad(p, 0.01)])
@pytest.mark.parametrize("what", ["kernel", "gradient", "W", "D'"])
def test_exception_arrays_of_other_shapes_since(what, make, change):
    model = network()
    optimizer = DOConvOptimizer(make(model.parameters()), model)
    train(model, optimizer, SHAPE, 1)
    kernel = optimizer.kernels["0"]
    backward(model, next(batches(model, SHAPE)))
    replaced = {
        "kernel": kernel.parameter,
        "gradient": kernel.parameter.grad,
        "W": kernel.weight,
        "D'": kernel.delta,
    }[what]
    replaced.data = change(replaced.data).contiguous()
    before = parameters_of(model)
    match = f"the {what} of layer '0' must have shape"
    for call in (optimizer.step, lambda: optimizer.clip_grad_norm_(1.0), optimizer.take_weights):
        with pytest.raises(DOConvError, match=match):
            call()
    assert same_bits(parameters_of(model), before)


@pytest.mark.parametrize("d_mul", [None, 11])
def test_the_plan_is_that_of_what_is_trained(d_mul):
    options = {"where": "[03]", "d_mul": d_mul}
    model, optimizer = made(**options)
    wanted = plan(model, input_shape=(2, *SHAPE), door="optimizer", **options)
    assert str(optimizer.plan(input_shape=(2, *SHAPE))) == str(wanted)
    assert [row.name for row in optimizer.plan().converted] == list(optimizer.kernels)


def test_the_plan_has_the_sizes_of_layers_that_were_moved():
    layers = nn.Sequential(DOConv2d(3, 3, 3, d_mul=9), DOConv2d(3, 3, 3, d_mul=12))
    _, optimizer = DOConvOptimizer.from_layers(momentum(layers.parameters()), layers)
    assert [row.spec.d_mul for row in optimizer.plan()] == [9, 12]


def test_the_plan_has_all_layers_of_a_shared_kernel():
    model = nn.Sequential(nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3))
    model[1].weight = model[0].weight
    optimizer = DOConvOptimizer(momentum(model.parameters()), model)
    assert [row.name for row in optimizer.plan().converted] == ["0", "1"]
