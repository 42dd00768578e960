"""Clipping by the norm of the gradients of W, D' and all other parameters."""

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW
from twins import backward, batches, difference, network, train, twins

SHAPE = (3, 8, 8)
OPTIMIZERS = {
    "momentum": lambda p: SGD(p, 0.02, momentum=0.9, weight_decay=0.01),
    "adamw": lambda p: AdamW(p, 0.01, weight_decay=0.1),
}


@pytest.mark.parametrize("options", [{}, {"d_mul": 20, "depthwise_init": "he"}])
@pytest.mark.parametrize("norm_type", [2.0, 1.0, float("inf")])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_twenty_clipped_steps_are_those_of_the_layers(name, norm_type, options):
    model, optimizer, layers, expected = twins(network(), OPTIMIZERS[name], **options)
    norms, others = [], []
    largest = 0.5 if norm_type == 2.0 else 20.0 if norm_type == 1.0 else 0.05
    train(
        model, optimizer, SHAPE,
        before_step=lambda: norms.append(optimizer.clip_grad_norm_(largest, norm_type)),
    )  # fmt: skip
    train(
        layers, expected, SHAPE,
        before_step=lambda: others.append(
            nn.utils.clip_grad_norm_(layers.parameters(), largest, norm_type)
        ),
    )  # fmt: skip
    torch.testing.assert_close(norms, others, rtol=1e-12, atol=0)
    assert difference(model, optimizer, layers) <= 1e-12
    assert sum(norm > largest for norm in norms) >= 3


def test_gradients_within_the_norm_keep_their_bits_and_all_others_their_direction():
    model, optimizer, *_ = twins(network(), OPTIMIZERS["momentum"])
    backward(model, next(batches(model, SHAPE)))
    before = {name: p.grad.clone() for name, p in model.named_parameters()}
    norm = optimizer.clip_grad_norm_(1e6)
    assert all(torch.equal(p.grad, before[name]) for name, p in model.named_parameters())
    assert torch.equal(optimizer.clip_grad_norm_(norm / 4), norm)
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, before[name] / 4, rtol=1e-5, atol=0)
    assert all(k.weight.grad is None and k.delta.grad is None for k in optimizer.kernels.values())


def test_the_norm_counts_what_is_in_the_optimizer_and_has_a_gradient():
    model = network(torch.float32)
    model[3].requires_grad_(False)
    model, optimizer, layers, _ = twins(model, OPTIMIZERS["momentum"])
    x = next(batches(model, SHAPE))
    for net in (model, layers):
        for part in (net[3].weight, *([net[3].depthwise_delta] if net is layers else [])):
            part.requires_grad_(False)
        backward(net, x)
    expected = nn.utils.clip_grad_norm_(layers.parameters(), 0.1)
    torch.testing.assert_close(optimizer.clip_grad_norm_(0.1), expected)
    assert model[3].weight.grad is None


def test_kernels_in_bfloat16_beside_a_norm_in_float32():
    model = network(torch.float32)
    for layer in (model[0], model[3]):
        layer.bfloat16()
        layer.register_forward_pre_hook(lambda layer, given: given[0].bfloat16())
        layer.register_forward_hook(lambda layer, given, out: out.float())
    model, optimizer, *_ = twins(model, OPTIMIZERS["momentum"])
    backward(model, next(batches(model[5:], SHAPE)))
    norm = optimizer.clip_grad_norm_(0.01)
    assert norm > 0.01
    torch.testing.assert_close(optimizer.clip_grad_norm_(1.0).item(), 0.01, rtol=0.01, atol=0)
