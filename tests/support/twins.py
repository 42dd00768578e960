"""A plain network with `DOConvOptimizer`, and the same network with our layers."""

from __future__ import annotations

import torch
from torch import nn

from do_conv.torch import DOConvOptimizer, convert, fold

STEPS = 20


def twins(model, make, *, depthwise_options=None, **options):
    """A plain network, its optimizer, and the same two with layers.

    `make` gives an optimizer for an iterable of parameters. The layers start from the W and D' of
    the plain network's optimizer, some of which are drawn.
    """
    layers = convert(model, **options)
    optimizer = DOConvOptimizer(
        make(model.parameters()), model, depthwise_options=depthwise_options, **options
    )
    carry(optimizer, layers)
    return model, optimizer, layers, make(layers.parameters())


@torch.no_grad()
def carry(optimizer, layers):
    """Give the layers the W and D' of an optimizer."""
    for name, kernel in optimizer.kernels.items():
        layer = layers.get_submodule(name)
        layer.weight.copy_(kernel.weight)
        layer.depthwise_delta.copy_(kernel.delta)


def batches(model, shape, steps=STEPS, seed=1):
    """Inputs for a number of steps, of two micro-batches each, in the dtype of a model."""
    generator = torch.Generator().manual_seed(seed)
    like = next(model.parameters())
    for _ in range(steps):
        yield torch.randn(2, *shape, generator=generator, dtype=torch.float64).to(like.dtype)


def backward(model, x):
    """Gather the gradients of two micro-batches; the loss asks the outputs for other values."""
    for part in x.unsqueeze(1):
        out = model(part)
        (out - torch.linspace(-1, 1, out.numel()).to(out).view_as(out)).square().mean().backward()


def train(model, optimizer, shape, steps=STEPS, seed=1, before_step=lambda: None):
    """Train a model in steps of two micro-batches."""
    for x in batches(model, shape, steps, seed):
        optimizer.zero_grad()
        backward(model, x)
        before_step()
        optimizer.step()


def difference(model, optimizer, layers):
    """The largest difference of the plain network, of W and of D' from those of the layers."""
    expected = dict(fold(layers).named_parameters())
    found = [(p, expected[name]) for name, p in model.named_parameters()]
    for name, kernel in optimizer.kernels.items():
        layer = layers.get_submodule(name)
        found += [(kernel.weight, layer.weight), (kernel.delta, layer.depthwise_delta)]
    return max((one - other).abs().max().item() for one, other in found)


def moved(optimizer, start):
    """How far the kernel that moved least is from its start; 0 if its D' is zero."""
    changes = [
        (kernel.parameter - start[f"{name}.weight"]).abs().max() * kernel.delta.abs().max().sign()
        for name, kernel in optimizer.kernels.items()
    ]
    return min(changes).item()


def parameters_of(model):
    """A copy of what a model has learned so far."""
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def same_bits(one, other):
    """Whether two dictionaries of tensors are equal to the last bit."""
    return one.keys() == other.keys() and all(torch.equal(v, other[k]) for k, v in one.items())


def network(dtype=torch.float64):
    """Several kinds of convolutions, some of which the C loops compose; for `(3, 8, 8)`."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.Tanh(),
        nn.Conv2d(8, 8, (1, 3), groups=2), nn.Tanh(),
        nn.Conv2d(8, 8, 3, groups=8), nn.Tanh(),
        nn.ConvTranspose2d(8, 4, 2, stride=2, groups=2), nn.Tanh(),
        nn.Flatten(), nn.Linear(4 * 12 * 8, 3),
    ).to(dtype)  # fmt: skip
