"""Several seeds of the CIFAR network: one after the other, and in one process together, in PyTorch.

Together they are one network with an axis more (`torch.func.vmap`): whether that is faster is what
decides how `examples/cifar` runs several seeds.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn import functional

from benchmarks.turns import take_turns
from do_conv.torch import convert
from examples.cifar import networks
from examples.cifar.schedules import BATCH

SEEDS = 3


def rows(framework: Any, quick: bool, threads: int) -> Iterator[dict[str, Any]]:
    """The gradients of a batch for every seed."""
    models = []
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        model = convert(networks.network("resnet_v2_20", 100)).train()
        models.append(model.to(memory_format=torch.channels_last))
    images = torch.randn(SEEDS, BATCH, 3, 32, 32)
    labels = torch.randint(100, (SEEDS, BATCH))
    steps = {
        "one after the other": lambda: _each(models, images, labels),
        "together": _together(models, images, labels),
    }
    yield {
        "network": "ResNet-v2-20",
        "seeds": SEEDS,
        "batch": BATCH,
        "found": take_turns(steps, 2.0, quick=quick),
    }


def _each(models: list[nn.Module], images: Tensor, labels: Tensor) -> None:
    for model, x, y in zip(models, images, labels, strict=True):
        model.zero_grad()
        output = model(x.contiguous(memory_format=torch.channels_last))
        functional.cross_entropy(output, y).backward()


def _together(models: list[nn.Module], images: Tensor, labels: Tensor) -> Any:
    parameters, buffers = stack_module_state(models)
    skeleton = copy.deepcopy(models[0]).to("meta")

    def loss(parameters: Any, buffers: Any, x: Tensor, y: Tensor) -> Tensor:
        return functional.cross_entropy(functional_call(skeleton, (parameters, buffers), (x,)), y)

    step = vmap(grad(loss))
    return lambda: step(parameters, buffers, images, labels)
