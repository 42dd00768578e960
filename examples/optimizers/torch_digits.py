#!/usr/bin/env python3
"""How far D' and W move under the optimizers of PyTorch and timm that scale by a norm.

    python examples/optimizers/torch_digits.py --steps 50

Each row is a small network after some steps on handwritten digits: the norm of D' of its second
convolution, that norm relative to the norm of the identity, and how far W moved relative to itself.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

import torch
from timm import optim as timm_optim
from timm.utils.agc import adaptive_clip_grad as timms_clip
from torch import nn, optim

from do_conv.demo import digits
from do_conv.torch import DOConv2d, adaptive_clip_grad, parameter_groups

Make = Callable[[nn.Module], Any]


def apart(**delta: Any) -> Callable[[nn.Module], Any]:
    """Groups in which D' has options of its own."""
    return lambda model: parameter_groups(model, delta=delta)


def sgd(model: nn.Module) -> Any:
    """The optimizer that gradients are clipped for."""
    return optim.SGD(model.parameters(), 0.1, momentum=0.9)


OPTIMIZERS: dict[str, tuple[Make, Make | None]] = {
    "SGD": (sgd, None),
    "SGD, timm's adaptive_clip_grad": (sgd, lambda m: timms_clip(m.parameters())),
    "SGD, our adaptive_clip_grad": (sgd, adaptive_clip_grad),
    "AdamW": (lambda m: optim.AdamW(m.parameters(), 0.01), None),
    "Adafactor": (lambda m: optim.Adafactor(m.parameters(), 0.01), None),
    "Adafactor, D' with eps=(None, 1/3)": (
        lambda m: optim.Adafactor(apart(eps=(None, 1 / 3))(m), 0.01), None),
    "timm Adafactor without a rate": (lambda m: timm_optim.Adafactor(m.parameters()), None),
    "timm Adafactor, D' with eps_scale=1/3": (
        lambda m: timm_optim.Adafactor(apart(eps_scale=1 / 3)(m)), None),
    "timm Lamb": (lambda m: timm_optim.Lamb(m.parameters(), 0.01, weight_decay=0.05), None),
    "timm Lamb, D' with weight_decay=0": (
        lambda m: timm_optim.Lamb(apart(weight_decay=0.0)(m), 0.01, weight_decay=0.05), None),
    "timm Lars": (lambda m: timm_optim.Lars(m.parameters(), 4.0, 0.9, weight_decay=1e-4), None),
    "timm Lars, D' with weight_decay=0, lr=0.1": (
        lambda m: timm_optim.Lars(apart(weight_decay=0.0, lr=0.1)(m), 4.0, 0.9, weight_decay=1e-4),
        None),
    "timm Muon": (lambda m: timm_optim.Muon(m.parameters(), 0.01), None),
}  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Print a row for each optimizer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=50)
    steps = parser.parse_args(arguments).steps
    print(f"{'':44}{'|D-I|':>9}{'|D-I|/|I|':>11}{'W moved':>9}")
    for name, (make, clip) in OPTIMIZERS.items():
        print(f"{name:44}{'{:9.2g}{:11.2g}{:9.2g}'.format(*moved(make, clip, steps))}")
    return 0


def moved(make: Make, clip: Make | None, steps: int) -> tuple[float, float, float]:
    """How far D' and W of the second convolution are from their start."""
    torch.manual_seed(0)
    data = digits.load()
    images, classes = torch.from_numpy(data.train_x), torch.from_numpy(data.train_y).long()
    model = network()
    layer: Any = model[3]
    start = layer.weight.detach().clone()
    optimizer = make(model)
    for step in range(steps):
        batch = slice(32 * (step % 8), 32 * (step % 8) + 32)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[batch]), classes[batch]).backward()
        if clip is not None:
            clip(model)
        optimizer.step()
    delta = layer.depthwise_delta.detach().norm().item()
    identity = (16 * 9) ** 0.5
    return delta, delta / identity, ((layer.weight - start).norm() / start.norm()).item()


def network() -> nn.Sequential:
    """Two convolutions with batch normalisation, and a classifier."""
    return nn.Sequential(
        DOConv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        DOConv2d(16, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
