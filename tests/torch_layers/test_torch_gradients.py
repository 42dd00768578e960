"""Gradients of every order, and the transforms of `torch.func`."""

import copy

import pytest
import torch
from torch import func, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call

from do_conv.torch import compose, compose_separable


@pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
def test_gradients_in_double_precision(layer, x, check):
    layer.double()
    names = [name for name, _ in layer.named_parameters()]
    arguments = [p.detach().clone().requires_grad_() for p in layer.parameters()]
    small = x[:1, :, :4, :4].double().requires_grad_()

    def run(given, *parameters):
        return functional_call(layer, dict(zip(names, parameters, strict=True)), (given,))

    assert check(run, (small, *arguments), fast_mode=True)


@pytest.mark.parametrize(
    ("function", "shapes", "groups"),
    [
        (compose, ((4, 2, 3, 2), (4, 6, 3, 2)), 2),
        (compose, ((4, 2, 13), (2, 13, 3, 2)), 1),
        (compose_separable, ((4, 2, 2), (4, 2, 3, 2)), 2),
    ],
)
def test_gradients_of_the_composition_element_by_element(function, shapes, groups):
    arrays = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    assert gradcheck(lambda *a: function(*a, groups), arrays, check_forward_ad=True)
    assert gradgradcheck(lambda *a: function(*a, groups), arrays)


def test_a_penalty_on_the_gradient_trains(layer, x):
    """A gradient of a gradient, as in a gradient penalty."""
    given = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(layer(given).square().sum(), given, create_graph=True)
    gradient.square().sum().backward()
    depthwise = [p for name, p in layer.named_parameters() if name.startswith("depthwise")]
    assert all(p.grad.abs().max() > 0 for p in (layer.weight, *depthwise))


def test_vmap_over_models(kind, composition, x):
    torch.manual_seed(7)
    models = [kind(composition=composition, dtype=torch.float64) for _ in range(3)]
    for model in models:
        for parameter in model.parameters():
            nn.init.normal_(parameter)
    parameters, buffers = func.stack_module_state(models)
    base = copy.deepcopy(models[0]).to("meta")

    def call(parameters, buffers, given):
        return functional_call(base, (parameters, buffers), (given,))

    together = func.vmap(call, in_dims=(0, 0, None))(parameters, buffers, x.double())
    for output, model in zip(together, models, strict=True):
        torch.testing.assert_close(output, model(x.double()))


def test_gradients_per_sample(layer, x):
    layer.double()
    parameters = {name: p.detach() for name, p in layer.named_parameters()}

    def loss(parameters, sample):
        return functional_call(layer, parameters, (sample[None],)).square().sum()

    each = func.vmap(func.grad(loss), in_dims=(None, 0))(parameters, x.double())
    layer.zero_grad()
    layer(x.double()).square().sum().backward()
    for name, parameter in layer.named_parameters():
        torch.testing.assert_close(each[name].sum(0), parameter.grad)


def test_forward_mode_agrees_with_backward_mode(layer, x):
    layer.double()
    parameters = {name: p.detach() for name, p in layer.named_parameters()}
    tangents = {name: torch.randn_like(p) for name, p in parameters.items()}

    def loss(parameters):
        return functional_call(layer, parameters, (x.double(),)).square().sum()

    _, forward = func.jvp(loss, (parameters,), (tangents,))
    gradients = func.grad(loss)(parameters)
    backward = sum((gradients[name] * tangents[name]).sum() for name in parameters)
    torch.testing.assert_close(forward, backward)
