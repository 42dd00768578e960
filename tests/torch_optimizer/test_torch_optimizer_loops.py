"""Kernels that the C loops step, in shares of channels, are stepped as by the optimizer itself."""

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW

from do_conv import native
from do_conv.torch import DOConvOptimizer, compose


class _OwnSGD(SGD):
    """An optimizer that the loops do not know."""


class _OwnAdamW(AdamW):
    """An optimizer that the loops do not know."""


OPTIMIZERS = {
    "SGD": (SGD, _OwnSGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-2}),
    "AdamW": (AdamW, _OwnAdamW, {"lr": 1e-3, "eps": 1e-4}),
}
# Input and output channels, groups and kernel size: fewer channels than a share, several shares, a
# last one that is not whole, and a kernel that is written past the caches.
LAYERS = {
    "a part of a share": (12, 10, 1, 3),
    "several shares": (72, 9, 1, 3),
    "the last share is not whole": (43, 8, 1, 3),
    "groups of several shares": (80, 16, 2, 3),
    "larger kernels": (20, 8, 1, 5),
    "past the caches": (352, 336, 1, 3),
}


def assert_near(found, expected):
    """The gradient of D' sums over all rows, each time in an order of its own."""
    for one, other in zip(found, expected, strict=True):
        tolerance = 100 * torch.finfo(other.dtype).eps * other.abs().max()
        torch.testing.assert_close(one, other, rtol=0, atol=float(tolerance))


@pytest.mark.skipif(not native.LIBRARIES, reason="the C loops are not compiled")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("sizes", LAYERS)
def test_a_step_of_the_loops_is_that_of_the_optimizer(sizes, optimizer, dtype):
    in_channels, out_channels, groups, side = LAYERS[sizes]
    kind, own, options = OPTIMIZERS[optimizer]
    trained = []
    for made in (kind, own):
        torch.manual_seed(0)
        layers = [
            nn.Conv2d(in_channels, out_channels, side, groups=groups, bias=False, dtype=dtype)
            for _ in range(2)
        ]
        model = nn.ModuleList(layers)
        stepped = DOConvOptimizer(made(model.parameters(), **options), model)
        for _ in range(3):
            for layer in layers:
                layer.weight.grad = 0.1 * torch.randn_like(layer.weight)
            stepped.step()
        trained.append([p.detach() for k in stepped.kernels.values() for _, p in k.parts])
        for kernel in stepped.kernels.values():
            composed = compose(kernel.weight, kernel.delta, groups)
            assert torch.equal(kernel.parameter, composed)
            assert kernel.delta.abs().max() > 1e-3
    assert_near(*trained)


def trained(sizes, memory_format=torch.contiguous_format):
    """W', W and D' after two steps of SGD on a layer."""
    in_channels, out_channels, groups, side = LAYERS[sizes]
    torch.manual_seed(0)
    model = nn.Conv2d(in_channels, out_channels, side, groups=groups, bias=False)
    gradients = 0.1 * torch.randn(2, *model.weight.shape)
    model.to(memory_format=memory_format)
    stepped = DOConvOptimizer(SGD(model.parameters(), 0.1, momentum=0.9), model)
    for gradient in gradients:
        model.weight.grad = gradient.contiguous(memory_format=memory_format)
        stepped.step()
    assert model.weight.is_contiguous(memory_format=memory_format)
    parts = (part.detach() for kernel in stepped.kernels.values() for _, part in kernel.parts)
    return [model.weight.detach(), *parts]


@pytest.mark.skipif(not native.LIBRARIES, reason="the C loops are not compiled")
@pytest.mark.parametrize("sizes", ["the last share is not whole", "past the caches"])
def test_the_number_of_threads_changes_no_bit(sizes):
    threads, by_threads = torch.get_num_threads(), []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            by_threads.append(trained(sizes))
    finally:
        torch.set_num_threads(threads)
    assert all(map(torch.equal, *by_threads))


@pytest.mark.skipif(not native.LIBRARIES, reason="the C loops are not compiled")
@pytest.mark.parametrize("sizes", ["several shares", "groups of several shares", "past the caches"])
def test_channels_last_gives_the_same(sizes):
    assert_near(trained(sizes), trained(sizes, torch.channels_last))
