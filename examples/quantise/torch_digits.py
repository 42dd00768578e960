#!/usr/bin/env python3
"""Quantise folded networks and their plain twins to int8 on handwritten digits, and compare them.

    python examples/quantise/torch_digits.py --seeds 5

Each seed trains a plain network and one with DO-Conv from the same start, and folds the second.
Both are quantised by PyTorch's FX graph mode: after training, calibrated on training images, and
by going on with training under simulated int8 (quantisation-aware training).
"""

from __future__ import annotations

import argparse
import copy
import sys
import warnings
from typing import Any

import torch
from torch import nn
from torch.ao.quantization import (
    get_default_qat_qconfig_mapping,
    get_default_qconfig_mapping,
    quantize_fx,
)

from do_conv.demo import digits
from do_conv.torch import convert, fold

STEPS = ("float", "after training", "quantisation-aware")


def main(arguments: list[str] | None = None) -> int:
    """Print the test accuracy of each network in float and int8, for each seed and on average."""
    given = _arguments().parse_args(arguments)
    data = digits.load()
    results = []
    names = [f"{arm}, {step}" for arm in ("plain", "folded") for step in STEPS]
    print("accuracy in %:", *names, sep="\n  ")
    for seed in range(given.seeds):
        results.append(run(data, seed, given.epochs))
        print(_line(str(seed), results[-1]))
    mean = [[sum(r[i][j] for r in results) / len(results) for j in range(3)] for i in range(2)]
    print(_line("mean", mean))
    return 0


def run(data: digits.Digits, seed: int, epochs: int) -> list[list[float]]:
    """The test accuracies in %, of the plain network and of the folded one, as in `STEPS`."""
    torch.manual_seed(seed)
    plain = network()
    over_parameterized = convert(plain)
    for model in (plain, over_parameterized):
        train(model, data, seed, range(epochs))
    found = []
    for model in (plain, fold(over_parameterized)):
        quantised = (after_training(model, data), in_training(model, data, seed, epochs))
        found.append([accuracy(one, data) for one in (model, *quantised)])
    return found


def network() -> nn.Sequential:
    """A small network of the usual kind: convolutions, batch normalisations, a pooling."""

    def block(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
        conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        return [conv, nn.BatchNorm2d(outputs), nn.ReLU()]

    blocks = [*block(1, 16, 1), *block(16, 16, 1), *block(16, 32, 2)]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


def train(model: Any, data: digits.Digits, seed: int, epochs: range, rate: float = 0.05) -> None:
    """Train by SGD with momentum."""
    optimizer = torch.optim.SGD(model.parameters(), rate, momentum=0.9, weight_decay=1e-4)
    model.train()
    for epoch in epochs:
        for x, y in digits.batches(data, seed, epoch):
            loss = nn.functional.cross_entropy(
                model(torch.from_numpy(x)), torch.from_numpy(y).long()
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def after_training(model: nn.Module, data: digits.Digits) -> nn.Module:
    """An int8 copy, whose ranges are those of 256 training images."""
    images = torch.from_numpy(data.train_x[:256])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's, of the way its own quantisation will go
        mapping = get_default_qconfig_mapping("fbgemm")
        prepared = quantize_fx.prepare_fx(copy.deepcopy(model).eval(), mapping, (images,))
        with torch.no_grad():
            prepared(images)
        return quantize_fx.convert_fx(prepared)


def in_training(model: nn.Module, data: digits.Digits, seed: int, epochs: int) -> nn.Module:
    """An int8 copy, trained for two more epochs under simulated int8."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mapping = get_default_qat_qconfig_mapping("fbgemm")
        prepared = quantize_fx.prepare_qat_fx(
            copy.deepcopy(model).train(), mapping, (torch.from_numpy(data.train_x[:1]),)
        )
        train(prepared, data, seed, range(epochs, epochs + 2), rate=0.01)
        return quantize_fx.convert_fx(prepared.eval())


@torch.no_grad()
def accuracy(model: nn.Module, data: digits.Digits) -> float:
    """The share of test images that are recognised, in %."""
    found = model.eval()(torch.from_numpy(data.test_x)).argmax(1)
    return 100 * (found == torch.from_numpy(data.test_y)).float().mean().item()


def _line(name: str, found: list[list[float]]) -> str:
    return f"seed {name:5}" + "".join(f"{value:8.2f}" for row in found for value in row)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=10)
    return parser


if __name__ == "__main__":
    sys.exit(main())
