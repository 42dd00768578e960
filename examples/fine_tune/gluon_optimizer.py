#!/usr/bin/env python3
"""Fine-tune a network of GluonCV with DO-Conv in the trainer; the network stays plain.

    python examples/fine_tune/gluon_optimizer.py --network cifar_resnet20_v1 --pretrained

Without `--pretrained` the network starts from random weights, and nothing is downloaded. It trains
as a converted network does, to rounding, and there is nothing to convert or to fold.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from do_conv.gluon import DOConvTrainer  # isort: skip  # before mxnet
import mxnet as mx
from mxnet import autograd, gluon, nd
from mxnet.gluon import nn

from do_conv.demo import digits
from do_conv.files import replacing
from do_conv.zoo import import_gluoncv


def main(arguments: list[str] | None = None) -> int:
    """Train, and write the network's parameters after each epoch."""
    given = _arguments().parse_args(arguments)
    mx.random.seed(given.seed)
    data = digits.load()
    network = import_gluoncv().get_model(given.network, pretrained=given.pretrained)
    if not given.pretrained:
        network.initialize(mx.init.Xavier())
    with network.name_scope():
        network.output = nn.Dense(10)  # the classifier of the digits
    network.output.initialize(mx.init.Xavier())
    network.hybridize()
    network(_images(data.test_x[:1]))  # Gluon learns the channels of a layer from its first input

    options = {"learning_rate": given.rate, "momentum": 0.9, "wd": 1e-4}
    trainer = DOConvTrainer(network, "sgd", options, depthwise_init=given.depthwise_init)
    print(f"{len(trainer.kernels)} kernels are trained as W and D'")
    cross_entropy = gluon.loss.SoftmaxCrossEntropyLoss()
    for epoch in range(given.epochs):
        for step, (x, y) in enumerate(digits.batches(data, given.seed, epoch)):
            if step == given.steps:
                break
            with autograd.record():
                loss = cross_entropy(network(_images(x)), nd.array(y))
            loss.backward()
            trainer.step(len(y))
        right = network(_images(data.test_x)).asnumpy().argmax(1) == data.test_y
        print(f"epoch {epoch + 1}: test accuracy {100 * right.mean():.1f} %")
        # Every checkpoint is one of the plain network: there is no D in it.
        with replacing(given.out) as file:
            network.save_parameters(str(file))
    print(f"wrote {given.out}, the parameters of the plain network")
    return 0


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--network", default="cifar_resnet20_v1", help="a name that GluonCV knows")
    add(
        "--pretrained", action="store_true", help="begin with GluonCV's weights, which it downloads"
    )
    add("--depthwise-init", choices=("identity", "he"), default="identity", help="of D")
    add("--epochs", type=int, default=5)
    add("--steps", type=int, help="at most so many steps in an epoch")
    add("--rate", type=float, default=0.02, help="the learning rate")
    add("--seed", type=int, default=0)
    add("--out", type=Path, default=Path("digits.params"), help="where the parameters go")
    return parser


def _images(x: Any) -> Any:
    """The digits, four times as large and in three colours, as the networks take them."""
    large = nd.contrib.BilinearResize2D(nd.array(x), height=32, width=32)
    return nd.broadcast_axis(large, axis=1, size=3)


if __name__ == "__main__":
    sys.exit(main())
