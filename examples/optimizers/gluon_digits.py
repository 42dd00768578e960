#!/usr/bin/env python3
"""How far D' and W move under the optimizers of MXNet that scale by a norm.

    python examples/optimizers/gluon_digits.py --steps 50

Each row is a small network after some steps on handwritten digits: the norm of D' of its second
convolution, that norm relative to the norm of the identity, and how far W moved relative to itself.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from do_conv.gluon import DOConv2D  # isort: skip  # before mxnet
import mxnet as mx
import numpy as np
from mxnet import autograd, gluon
from mxnet.gluon import nn

from do_conv.demo import digits

LARS = {"learning_rate": 4.0, "momentum": 0.9, "wd": 1e-4}
SGD = {"learning_rate": 0.1, "momentum": 0.9}
# The options of all parameters; those of D', where it has a trainer of its own.
OPTIMIZERS: dict[str, tuple[str, dict[str, float], tuple[str, dict[str, float]] | None]] = {
    "sgd": ("sgd", SGD, None),
    "adam": ("adam", {"learning_rate": 0.01}, None),
    "lamb": ("lamb", {"learning_rate": 0.01}, None),
    "lamb, D' by adam": ("lamb", {"learning_rate": 0.01}, ("adam", {"learning_rate": 0.01})),
    "lars": ("lars", LARS, None),
    "lars, D' by sgd": ("lars", LARS, ("sgd", SGD)),
}


def main(arguments: list[str] | None = None) -> int:
    """Print a row for each optimizer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=50)
    steps = parser.parse_args(arguments).steps
    print(f"{'':24}{'|D-I|':>9}{'|D-I|/|I|':>11}{'W moved':>9}")
    for name, options in OPTIMIZERS.items():
        print(f"{name:24}{'{:9.2g}{:11.2g}{:9.2g}'.format(*moved(*options, steps))}")
    return 0


def moved(
    optimizer: str, options: dict[str, float], delta: Any, steps: int
) -> tuple[float, float, float]:
    """How far D' and W of the second convolution are from their start."""
    mx.random.seed(0)
    np.random.seed(0)
    data = digits.load()
    images, classes = mx.nd.array(data.train_x), mx.nd.array(data.train_y)
    net = network()
    layer = net[3]
    start = layer.weight.data().asnumpy()
    trainers = [gluon.Trainer(net.collect_params(), optimizer, options)]
    if delta is not None:
        others = net.collect_params("^(?!.*depthwise_delta)")
        trainers = [
            gluon.Trainer(others, optimizer, options),
            gluon.Trainer(net.collect_params(".*depthwise_delta"), *delta),
        ]
    criterion = gluon.loss.SoftmaxCrossEntropyLoss()
    for step in range(steps):
        batch = slice(32 * (step % 8), 32 * (step % 8) + 32)
        with autograd.record():
            loss = criterion(net(images[batch]), classes[batch]).mean()
        loss.backward()
        for trainer in trainers:
            trainer.step(1)
    norm = float(np.linalg.norm(layer.depthwise_delta.data().asnumpy()))
    change = np.linalg.norm(layer.weight.data().asnumpy() - start)
    return norm, norm / (16 * 9) ** 0.5, float(change / np.linalg.norm(start))


def network() -> Any:
    """Two convolutions with batch normalisation, and a classifier."""
    net = nn.HybridSequential()
    net.add(
        DOConv2D(16, 3, padding=1, in_channels=1, use_bias=False),
        nn.BatchNorm(in_channels=16),
        nn.Activation("relu"),
        DOConv2D(16, 3, strides=2, padding=1, in_channels=16, use_bias=False),
        nn.BatchNorm(in_channels=16),
        nn.Activation("relu"),
        nn.GlobalAvgPool2D(),
        nn.Dense(10, in_units=16),
    )
    net.initialize(mx.init.Xavier())
    return net


if __name__ == "__main__":
    sys.exit(main())
