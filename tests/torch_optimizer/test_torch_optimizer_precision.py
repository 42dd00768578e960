"""GradScaler, autocast and bfloat16 parameters."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW
from twins import backward, batches, carry, difference, network, parameters_of, same_bits, twins

from do_conv.torch import DOConvOptimizer, compose, convert

SHAPE = (3, 8, 8)
OPTIMIZERS = {
    "momentum": lambda p: SGD(p, 0.01, momentum=0.9, weight_decay=0.01),
    "fused": lambda p: SGD(p, 0.01, momentum=0.9, weight_decay=0.01, fused=True),
    "adamw": lambda p: AdamW(p, 0.01, eps=1e-4, weight_decay=0.1),
    "fused adamw": lambda p: AdamW(p, 0.01, eps=1e-4, weight_decay=0.1, fused=True),
}


def everything(model, optimizer):
    """What a step changes: the network, W, D' and their state."""
    values = {f"model.{name}": value for name, value in parameters_of(model).items()}
    for number, state in optimizer.state_dict()["state"].items():
        values |= {f"{number}.{key}": value.clone() for key, value in state.items()}
    return values


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_scaler_trains_as_with_layers_and_skips_an_overflow(name, clip):
    model, optimizer, layers, expected = twins(network(torch.float32), OPTIMIZERS[name])
    for net, inner in ((model, optimizer), (layers, expected)):
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12, growth_interval=4)
        for number, x in enumerate(batches(net, SHAPE, 10)):
            inner.zero_grad()
            scaler.scale((net(x) - 0.3).square().mean()).backward()
            if clip:
                scaler.unscale_(inner)
                if inner is optimizer:
                    optimizer.clip_grad_norm_(0.1)
                else:
                    nn.utils.clip_grad_norm_(net.parameters(), 0.1)
            if number == 5 and not clip:
                net[0].weight.grad[0, 0, 0, 0] = torch.inf
            before = everything(net, inner) if inner is optimizer else None
            scale = scaler.get_scale()
            scaler.step(inner)
            scaler.update()
            is_skipped = scaler.get_scale() < scale
            assert is_skipped == (number == 5 and not clip)
            if before is not None and is_skipped:
                assert same_bits(everything(net, inner), before)
    assert difference(model, optimizer, layers) <= 1e-6


@pytest.mark.parametrize("d_mul", [None, 11])
def test_autocast_around_a_step_changes_no_bit(d_mul):
    torch.manual_seed(0)
    first = network(torch.float32)
    first_optimizer = DOConvOptimizer(OPTIMIZERS["adamw"](first.parameters()), first, d_mul=d_mul)
    second, second_optimizer = copy.deepcopy((first, first_optimizer))
    for x in batches(first, SHAPE, 5):
        for model, optimizer, is_within in (
            (first, first_optimizer, False),
            (second, second_optimizer, True),
        ):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                loss = (model(x) - 0.3).square().mean()
            loss.backward()
            with torch.autocast("cpu", torch.bfloat16, enabled=is_within):
                optimizer.step()
    assert same_bits(everything(first, first_optimizer), everything(second, second_optimizer))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_autocast_steps_as_with_layers(name):
    """The layers' kernels are rounded by the convolution, as those of the plain network are."""
    model, optimizer, layers, expected = twins(network(torch.float32), OPTIMIZERS[name])
    x = next(batches(model, SHAPE))
    for net, inner in ((model, optimizer), (layers, expected)):
        with torch.autocast("cpu", torch.bfloat16):
            loss = (net(x) - 0.3).square().mean()
        (30 * loss).backward()
        inner.step()
    assert difference(model, optimizer, layers) <= 1e-7


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_kernels_in_bfloat16_have_w_and_d_in_float32(name):
    """Other parameters stay as they are, so that both networks see the same gradients."""
    model = network(torch.bfloat16)
    for p in (p for p in model.parameters() if p.dim() < 4):
        p.requires_grad_(False)
    optimizer = DOConvOptimizer(OPTIMIZERS[name](model.parameters()), model)
    wide = convert(network(torch.bfloat16)).float()
    carry(optimizer, wide)
    expected = OPTIMIZERS[name](
        p for n, p in wide.named_parameters() if p.dim() >= 4 or n.endswith("depthwise_delta")
    )
    for x in batches(model, SHAPE, 10):
        optimizer.zero_grad()
        backward(model, x)
        for layer_name, kernel in optimizer.kernels.items():
            layer = wide.get_submodule(layer_name)
            grad = kernel.parameter.grad.float()
            parts = (layer.weight, layer.depthwise_delta)
            composed = compose(*parts, kernel.spec.groups)
            for part, one in zip(parts, torch.autograd.grad(composed, parts, grad), strict=True):
                part.grad = one
        optimizer.step()
        expected.step()
    for layer_name, kernel in optimizer.kernels.items():
        layer = wide.get_submodule(layer_name)
        assert kernel.weight.dtype == kernel.delta.dtype == torch.float32
        assert kernel.parameter.dtype == torch.bfloat16
        torch.testing.assert_close(kernel.weight, layer.weight, rtol=0, atol=1e-6)
        torch.testing.assert_close(kernel.delta, layer.depthwise_delta, rtol=0, atol=1e-6)
        composed = compose(kernel.weight, kernel.delta, kernel.spec.groups)
        assert torch.equal(kernel.parameter, composed.bfloat16())


def test_steps_that_bfloat16_would_lose_add_up():
    torch.manual_seed(0)
    model = nn.Conv2d(3, 4, 3, bias=False).bfloat16()
    start = model.weight.detach().clone()
    options = {"lr": 0}
    optimizer = DOConvOptimizer(SGD(model.parameters(), 1e-4), model, depthwise_options=options)
    for _ in range(100):
        model.weight.grad = torch.ones_like(model.weight)
        optimizer.step()
    kernel = optimizer.kernels[""]
    torch.testing.assert_close(kernel.weight, start.float() - 0.01, rtol=0, atol=1e-6)
    assert torch.equal(model.weight, kernel.weight.bfloat16())
    assert not kernel.delta.any()
