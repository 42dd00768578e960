#!/usr/bin/env python3
"""Fine-tune a network of GluonCV with DO-Conv on handwritten digits, fold it, prove it, save it.

    python examples/fine_tune/gluon_digits.py --network cifar_resnet20_v1 --weights plain.params

`--weights` are those of the plain network; without them the network starts from random weights.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from do_conv.gluon import convert, fold, plan, verify  # isort: skip  # before mxnet
import mxnet as mx
from mxnet import autograd, gluon, nd

from do_conv.demo import digits
from do_conv.files import replacing
from do_conv.zoo import import_gluoncv


def main(arguments: list[str] | None = None) -> int:
    """Run all of it; `verify` refuses a folded network that does something else."""
    given = _arguments().parse_args(arguments)
    mx.random.seed(given.seed)
    data = digits.load()
    plain = import_gluoncv().get_model(given.network, pretrained=False, classes=10)
    plain.initialize(mx.init.Xavier())
    if given.weights:
        plain.load_parameters(str(given.weights))
    plain(_images(data.test_x[:1]))  # Gluon learns the channels of a layer from its first input
    print(plan(plain, input_shape=(1, 3, 32, 32)))

    model = convert(plain)
    model.hybridize()
    options = {"learning_rate": given.rate, "momentum": 0.9, "wd": 1e-4}
    trainer = gluon.Trainer(model.collect_params(), "sgd", options)
    cross_entropy = gluon.loss.SoftmaxCrossEntropyLoss()
    for epoch in range(given.epochs):
        for step, (x, y) in enumerate(digits.batches(data, given.seed, epoch)):
            if step == given.steps:
                break
            with autograd.record():
                loss = cross_entropy(model(_images(x)), nd.array(y))
            loss.backward()
            trainer.step(len(y))
        right = model(_images(data.test_x)).asnumpy().argmax(1) == data.test_y
        print(f"epoch {epoch + 1}: test accuracy {100 * right.mean():.1f} %")

    folded = fold(model)
    difference = verify(model, folded, _images(data.test_x[:64]))
    print(f"folded, with a largest difference of {difference:.1e}")
    with replacing(given.out) as file:
        folded.save_parameters(str(file))
    print(f"wrote {given.out}, the parameters of the plain network")
    return 0


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--network", default="cifar_resnet20_v1", help="a name that GluonCV knows")
    add("--weights", type=Path, help="the parameters of the plain network")
    add("--epochs", type=int, default=5)
    add("--steps", type=int, help="at most so many steps in an epoch")
    add("--rate", type=float, default=0.02, help="the learning rate")
    add("--seed", type=int, default=0)
    add("--out", type=Path, default=Path("digits.params"), help="where the folded weights go")
    return parser


def _images(x: Any) -> Any:
    """The digits, four times as large and in three colours, as the networks take them."""
    large = nd.contrib.BilinearResize2D(nd.array(x), height=32, width=32)
    return nd.broadcast_axis(large, axis=1, size=3)


if __name__ == "__main__":
    sys.exit(main())
