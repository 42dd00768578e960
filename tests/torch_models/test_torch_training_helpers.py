"""`composed`, `parameter_groups` and `verify`."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from do_conv import DOConvError
from do_conv.torch import DOConv2d, composed, convert, fold, parameter_groups, verify


def gradients(model):
    return {name: p.grad for name, p in model.named_parameters()}


def test_gradients_that_gather_are_those_of_composing_each_time(network, x, trained):
    model = trained(convert(network)).double()
    batches = [x.double() + shift for shift in range(3)]
    once, each = model, copy.deepcopy(model)
    with composed(once):
        for batch in batches:
            once(batch).square().mean().backward()
    for batch in batches:
        each(batch).square().mean().backward()
    expected = gradients(each)
    for name, gradient in gradients(once).items():
        torch.testing.assert_close(gradient, expected[name])
        assert gradient.abs().max() > 0


def test_what_is_frozen_gathers_no_gradient(network, x, trained):
    model = trained(convert(network))
    for parameter in model[0].first.parameters():
        parameter.requires_grad_(False)
    with composed(model):
        model(x).square().mean().backward()
    without = {name for name, gradient in gradients(model).items() if gradient is None}
    assert without == {"0.first.weight", "0.first.depthwise_delta"}


class Operators(TorchDispatchMode):
    """What PyTorch runs, but for what only looks at an array in another way."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        if not function.is_view:
            self.names.append(str(function))
        return function(*arguments, **(options or {}))


def operators(model, x):
    with Operators() as found, torch.no_grad():
        model(x)
    return found.names


def test_within_the_context_no_kernel_is_composed_again(network, x, trained):
    model = trained(convert(network))
    plain = operators(fold(model), x)
    with composed(model):
        model(x)
        assert operators(model, x) == plain
    assert len(operators(model, x)) > len(plain)


def test_after_the_context_layers_compose_again(network, x, trained):
    model = convert(network)
    with composed(model):
        before = model(x)
    trained(model)
    assert not torch.allclose(model(x), before)


@pytest.mark.parametrize("use", [lambda model, x: model(x), lambda model, x: None])
def test_exception_parameters_that_change_within(network, x, use):
    model = convert(network)

    def change_within():
        with composed(model):
            with torch.no_grad():
                model[0].first.depthwise_delta.add_(0.1)
            use(model, x)

    with pytest.raises(DOConvError, match=r"must not change .* DOConv2d .*; leave the context"):
        change_within()
    model(x)  # and the layers are as they were


def test_groups_for_an_optimizer(network):
    model = convert(network)
    groups = parameter_groups(model, delta={"lr": 0.01, "weight_decay": 0}, lr=0.1)
    others, deltas = (group["params"] for group in groups)
    assert (groups[0]["lr"], groups[1]["lr"], groups[1]["weight_decay"]) == (0.1, 0.01, 0)
    assert {id(p) for p in others + deltas} == {id(p) for p in model.parameters()}
    assert len(deltas) == 4  # the tied pair has one
    assert all(p.ndim == 4 and not p.any() for p in deltas)
    torch.optim.SGD(groups, momentum=0.9).step()


def test_groups_of_a_model_with_a_layer_that_has_no_delta():
    model = nn.Sequential(DOConv2d(3, 4, 3), DOConv2d(4, 2, 1))
    others, deltas = (group["params"] for group in parameter_groups(model, delta={}))
    assert (len(others), deltas) == (4, [model[0].depthwise_delta])


def test_exception_groups_of_a_plain_model(network):
    with pytest.raises(DOConvError, match="a depthwise kernel; received a Sequential without one"):
        parameter_groups(network, delta={})


def test_verify_returns_the_difference(network, x, trained):
    converted = trained(convert(network))
    assert verify(network, convert(network), x) == 0
    assert verify(converted, fold(converted), x) == 0
    with torch.no_grad():
        nudged = copy.deepcopy(network)
        nudged[0].up.bias += 1e-7
    assert 0 < verify(network, nudged, x) < 1e-5


def test_verify_draws_the_same_numbers_for_both(x):
    model = nn.Sequential(nn.Dropout(0.5))
    state = torch.get_rng_state()
    assert verify(model, copy.deepcopy(model), x) == 0
    assert torch.equal(torch.get_rng_state(), state)


def test_verify_moves_nothing(network, x):
    state = copy.deepcopy(network.train().state_dict())
    verify(network, network, x)
    assert all(torch.equal(state[key], value) for key, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


def test_exception_verify_names_the_layer_where_it_begins(network, x, trained):
    match = r"within 1e-05 .* difference of \d\.\de\+00, which begins in layer '0.first'; look"
    with pytest.raises(DOConvError, match=match):
        verify(network, trained(convert(network)), x)


def test_exception_verify_names_no_layer_that_runs_before_and_after_it():
    relu = nn.ReLU()
    model = nn.Sequential(nn.Conv2d(3, 4, 3), relu, nn.Conv2d(4, 4, 3), relu)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[2].weight.mul_(2)
    with pytest.raises(DOConvError, match="begins in layer '2'"):
        verify(model, other, torch.randn(2, 3, 6, 6))


def test_exception_verify_names_a_forgotten_evaluation_mode():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    other = copy.deepcopy(model)
    match = r"begins in layer '1', from models in training mode; call eval\(\)"
    with pytest.raises(DOConvError, match=match):
        verify(model.train(), other.eval(), torch.randn(4, 3, 6, 6))


@pytest.mark.parametrize("wrong", [nn.Flatten(), nn.Threshold(1e9, float("nan"))])
def test_exception_verify_other_shapes_and_nan(x, wrong):
    with pytest.raises(DOConvError, match="outputs of other shapes, or with NaN"):
        verify(nn.Identity(), wrong, x)


def test_verify_of_models_that_give_several_tensors(x):
    class Several(nn.Module):
        def __init__(self, last):
            super().__init__()
            self.last = last

        def forward(self, given):
            return {"a": given, "b": [given * 2, (given + self.last,)]}

    assert verify(Several(1), Several(1), x) == 0
    with pytest.raises(DOConvError, match="must give the same outputs"):
        verify(Several(1), Several(2), x)


def test_composed_without_gradients_around_passes_that_have_them():
    layer, x = DOConv2d(3, 4, 3), torch.randn(2, 3, 6, 6)
    layer(x).square().sum().backward()
    expected = [parameter.grad.clone() for parameter in layer.parameters()]
    layer.zero_grad()
    with torch.no_grad(), composed(layer), torch.enable_grad():
        layer(x).square().sum().backward()
    for parameter, grad in zip(layer.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, grad)
    with torch.inference_mode(), composed(layer):
        assert torch.equal(layer(x), layer(x))


def test_composed_within_composed():
    layer = DOConv2d(3, 4, 3)
    nn.init.normal_(layer.depthwise_delta)
    x = torch.randn(2, 3, 5, 5)
    expected = torch.autograd.grad((2 * layer(x)).sum(), list(layer.parameters()))
    with composed(layer):
        first = layer(x).sum()
        with composed(layer):
            second = layer(x).sum()
        (first + second).backward()
    for parameter, gradient in zip(layer.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
    assert torch.equal(layer(x), layer.fold()(x))


@pytest.mark.parametrize("has_gradients", [False, True])
def test_a_copy_within_the_context_composes_by_itself(network, x, trained, has_gradients):
    model = trained(convert(network))
    with torch.set_grad_enabled(has_gradients):
        with composed(model):
            expected = model(x)
            copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
            folded = fold(model)
        for one in (*copies, folded):
            torch.testing.assert_close(one(x), expected)
        with torch.no_grad():
            copies[0][0].first.depthwise_delta.add_(1)
        assert not torch.allclose(copies[0](x), expected)


def assigned(model, state, x):
    model.load_state_dict(state, assign=True)
    return model(x)


def called_with(model, state, x):
    return torch.func.functional_call(model, state, (x,))


@pytest.mark.parametrize("call", [assigned, called_with])
def test_exception_other_parameters_within_the_context(x, trained, call):
    model = trained(convert(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad(), pytest.raises(DOConvError, match="parameters have changed"):
        with_kept(model, lambda: call(model, state, x))
    with composed(model):
        model(x)


def with_kept(model, call):
    with composed(model):
        call()
