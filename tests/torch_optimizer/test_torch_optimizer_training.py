"""Training a plain network with `DOConvOptimizer` is training its layers, to rounding."""

import copy

import cpu_torchvision  # noqa: F401  # before timm
import pytest
import torch
from timm.layers import Conv2dSame, ScaledStdConv2d, StdConv2d
from torch import nn
from torch.nn import functional
from torch.optim import SGD, Adam, AdamW, RMSprop
from twins import (
    STEPS,
    batches,
    difference,
    moved,
    network,
    parameters_of,
    same_bits,
    train,
    twins,
)

from do_conv import DOConvError
from do_conv.torch import DOConvOptimizer, convert, plan

OPTIMIZERS = {
    "momentum": (lambda p: SGD(p, 0.01, momentum=0.9, weight_decay=0.01), 1e-12),
    "dampened": (lambda p: SGD(p, 0.02, momentum=0.9, dampening=0.5), 1e-12),
    "nesterov": (lambda p: SGD(p, 0.01, momentum=0.9, weight_decay=0.01, nesterov=True), 1e-12),
    "unfused": (lambda p: SGD(p, 0.01, momentum=0.9, foreach=False), 1e-12),
    "fused": (lambda p: SGD(p, 0.01, momentum=0.9, weight_decay=0.01, fused=True), 1e-12),
    "adam": (lambda p: Adam(p, 0.01, weight_decay=0.01), 1e-10),
    "amsgrad": (lambda p: Adam(p, 0.01, amsgrad=True), 1e-10),
    "adamw": (lambda p: AdamW(p, 0.01, weight_decay=0.1), 1e-10),
    "fused adamw": (lambda p: AdamW(p, 0.01, weight_decay=0.1, fused=True), 1e-10),
    "rmsprop": (lambda p: RMSprop(p, 0.001, momentum=0.9, centered=True), 1e-10),
}
OPTIONS = {
    "identity": {},
    "he": {"depthwise_init": "he"},
    "large d_mul": {"d_mul": 20},
    "large d_mul, he": {"d_mul": 11, "depthwise_init": "he"},
}


def own_forward():
    torch.manual_seed(0)
    return nn.Sequential(
        StdConv2d(3, 8, 3, eps=1e-3), nn.Tanh(), Conv2dSame(8, 8, 3, stride=2), nn.Tanh(),
        ScaledStdConv2d(8, 4, 2), nn.Flatten(), nn.Linear(36, 3),
    ).double()  # fmt: skip


def of_one_axis():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv1d(3, 8, 5, groups=1, padding=2), nn.Tanh(), nn.Conv1d(8, 4, 3, groups=4),
        nn.ConvTranspose1d(4, 2, 4, stride=2),
    ).double()  # fmt: skip


def of_three_axes():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv3d(2, 4, (1, 2, 3)), nn.Tanh(), nn.Conv3d(4, 4, 2, groups=2, bias=False), nn.Tanh(),
        nn.ConvTranspose3d(4, 2, 2, groups=2),
    ).double()  # fmt: skip


def of_same_sizes():
    """Kernels of the same sizes are computed together, unless the C loops take them."""
    torch.manual_seed(0)
    pairs = [
        layer()
        for layer in (
            lambda: nn.Conv2d(4, 4, 3, groups=4),
            lambda: nn.ConvTranspose2d(4, 4, 3, groups=2, bias=False),
        )
        for _ in range(2)
    ]
    return nn.Sequential(*pairs).double()


NETWORKS = {
    "own forward": (own_forward, (3, 8, 8)),
    "1-D": (of_one_axis, (3, 12)),
    "same sizes": (of_same_sizes, (4, 6, 6)),
    "3-D": (of_three_axes, (2, 4, 4, 4)),
}


def assert_trains_as_layers(model, make, shape, tolerance, **options):
    start = parameters_of(model)
    model, optimizer, layers, expected = twins(model, make, **options)
    train(model, optimizer, shape)
    train(layers, expected, shape)
    assert difference(model, optimizer, layers) <= tolerance
    assert moved(optimizer, start) > 0.01


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_twenty_steps_are_those_of_the_layers(name, options):
    make, tolerance = OPTIMIZERS[name]
    assert_trains_as_layers(network(), make, (3, 8, 8), tolerance, **OPTIONS[options])


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", NETWORKS)
def test_other_ranks_and_layers_with_a_forward_pass_of_their_own(name, options):
    make, shape = NETWORKS[name]
    optimizer, tolerance = OPTIMIZERS["momentum"]
    assert_trains_as_layers(make(), optimizer, shape, tolerance, **OPTIONS[options])


def by_another_function(layer, x):
    return functional.conv2d(x, layer.weight, layer.bias, padding=layer.padding)


class Unseen(nn.Conv2d):
    """A forward pass whose own code does not show that it reads the weight."""

    def forward(self, x):
        return by_another_function(self, x)


def unseen():
    model = network()
    model[0].__class__ = Unseen
    return model


def test_a_layer_that_convert_leaves_is_trained_and_cannot_become_one_of_ours():
    model, make = unseen(), OPTIMIZERS["momentum"][0]
    start = parameters_of(model)
    layers = convert(network())
    assert "0" not in [row.name for row in plan(model).converted]
    assert "0" in [row.name for row in plan(model, door="optimizer").converted]
    optimizer = DOConvOptimizer(make(model.parameters()), model)
    train(model, optimizer, (3, 8, 8))
    train(layers, make(layers.parameters()), (3, 8, 8))
    assert difference(model, optimizer, layers) <= 1e-12
    assert moved(optimizer, start) > 0.01
    before = parameters_of(model)
    for inplace in (False, True):
        with pytest.raises(DOConvError, match="layer '0', because its own forward pass is not"):
            optimizer.to_layers(inplace=inplace)
    assert same_bits(parameters_of(model), before)
    assert type(model[3]) is nn.Conv2d


@pytest.mark.parametrize("options", OPTIONS)
def test_twenty_steps_in_float32(options):
    for make in (OPTIMIZERS["momentum"][0], lambda p: AdamW(p, 0.01, eps=1e-4, weight_decay=0.1)):
        assert_trains_as_layers(network(torch.float32), make, (3, 8, 8), 1e-5, **OPTIONS[options])


def test_chosen_layers_and_sizes_by_layer():
    options = {"where": lambda name, layer: name != "5", "d_mul": lambda spec: spec.area + 3}
    _, optimizer, *_ = twins(network(), OPTIMIZERS["momentum"][0], **options)
    assert list(optimizer.kernels) == ["0", "3", "7"]
    assert [kernel.spec.d_mul for kernel in optimizer.kernels.values()] == [12, 6, 7]
    assert_trains_as_layers(network(), OPTIMIZERS["momentum"][0], (3, 8, 8), 1e-12, **options)


@pytest.mark.parametrize("options", OPTIONS)
def test_closures_that_are_evaluated_several_times_in_a_step(options):
    make = lambda p: torch.optim.LBFGS(p, 0.5, max_iter=3, line_search_fn="strong_wolfe")  # noqa: E731
    model, optimizer, layers, expected = twins(of_one_axis(), make, **OPTIONS[options])
    start = parameters_of(model)
    losses = [[], []]
    for x in batches(model, (3, 12), 6):
        for net, inner, found in ((model, optimizer, losses[0]), (layers, expected, losses[1])):

            def closure(net=net, inner=inner, found=found, x=x):
                inner.zero_grad()
                loss = (net(x) - 0.3).square().mean()
                loss.backward()
                found.append(loss.item())
                return loss

            inner.step(closure)
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)
    assert len(losses[0]) >= 3 * 6
    assert difference(model, optimizer, layers) <= 1e-9
    assert moved(optimizer, start) > 0.01


def test_a_closure_for_an_optimizer_that_evaluates_once():
    model, optimizer, layers, expected = twins(network(), OPTIMIZERS["momentum"][0])
    for net, inner in ((model, optimizer), (layers, expected)):
        x = next(batches(net, (3, 8, 8), 1))

        def closure(net=net, inner=inner, x=x):
            inner.zero_grad()
            loss = net(x).square().mean()
            loss.backward()
            return loss

        losses = [inner.step(closure).item() for _ in range(STEPS)]
        assert losses[-1] < losses[0]
    assert difference(model, optimizer, layers) <= 1e-12


def test_the_identity_start_changes_no_bit():
    for d_mul in (None, 20):
        model = network(torch.float32)
        before = copy.deepcopy(model.state_dict())
        DOConvOptimizer(SGD(model.parameters(), 0.1), model, d_mul=d_mul)
        after = model.state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_the_he_start_is_written_at_once_and_is_that_of_the_table():
    model = nn.Conv2d(16, 64, 3, bias=False)
    before = model.weight.detach().clone()
    kernel = DOConvOptimizer(SGD(model.parameters(), 0.1), model, depthwise_init="he").kernels[""]
    assert torch.equal(kernel.weight, before)
    drawn = (kernel.delta + torch.eye(9).view(1, 9, 3, 3)).detach()
    expected = torch.einsum("oim,imhw->oihw", before.flatten(2), drawn)
    torch.testing.assert_close(model.weight.detach(), expected)
    assert not torch.allclose(model.weight, before)


def test_a_wide_kernel_and_a_slot_for_each_position():
    """Kernels that the C loops leave to PyTorch's operators."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 8), nn.Tanh(), nn.Conv2d(4, 2, 1)).double()
    assert_trains_as_layers(model, lambda p: AdamW(p, 0.01), (2, 9, 9), 1e-10)
