#!/usr/bin/env python3
"""Fine-tune a network of Keras with DO-Conv on handwritten digits, fold it, prove it, save it.

    python examples/fine_tune/keras_digits.py --network MobileNet --weights plain.weights.h5

`--weights` are those of the plain network; without them the network starts from random weights.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import keras
from keras import applications

from do_conv.core import layouts
from do_conv.demo import digits
from do_conv.files import replacing
from do_conv.tf import convert, fold, plan, verify


def main(arguments: list[str] | None = None) -> int:
    """Run all of it; `verify` refuses a folded network that does something else."""
    given = _arguments().parse_args(arguments)
    keras.utils.set_random_seed(given.seed)
    data = digits.load()
    make = getattr(applications, given.network)
    plain = make(weights=None, input_shape=(32, 32, 1), classes=10, classifier_activation=None)
    if given.weights:
        plain.load_weights(given.weights)
    for layer in plain.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9  # Keras's own averages take thousands of steps
    print(plan(plain, input_shape=(1, 32, 32, 1)))

    model = convert(plain)
    model.compile(
        keras.optimizers.SGD(given.rate, momentum=0.9, weight_decay=1e-4),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,  # to compile takes longer than to train on so few images
    )
    for epoch in range(given.epochs):
        for step, (x, y) in enumerate(digits.batches(data, given.seed, epoch)):
            if step == given.steps:
                break
            model.train_on_batch(_images(x), y)
        right = model.predict(_images(data.test_x), verbose=0).argmax(1) == data.test_y
        print(f"epoch {epoch + 1}: test accuracy {100 * right.mean():.1f} %")

    folded = fold(model)
    difference = verify(model, folded, _images(data.test_x[:64]))
    print(f"folded, with a largest difference of {difference:.1e}")
    with replacing(given.out) as file:
        folded.save_weights(file)
    print(f"wrote {given.out}, the weights of the plain network")
    return 0


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    names = [name for name, one in vars(applications).items() if callable(one)]
    known = {"choices": names, "metavar": "NAME"}
    add("--network", default="MobileNet", help="a name that keras.applications knows", **known)
    add("--weights", type=_weights_file, help="the weights of the plain network")
    add("--epochs", type=int, default=5)
    add("--steps", type=int, help="at most so many steps in an epoch")
    add("--rate", type=float, default=0.01, help="the learning rate")
    add("--seed", type=int, default=0)
    out = Path("digits.weights.h5")
    add("--out", type=_weights_file, default=out, help="where the folded weights go")
    return parser


def _weights_file(name: str) -> Path:
    if not name.endswith(".weights.h5"):
        raise argparse.ArgumentTypeError(f"Keras's weight files end in .weights.h5; not so {name}")
    return Path(name)


def _images(x: Any) -> Any:
    """The digits, four times as large, as the network takes them."""
    return keras.ops.image.resize(layouts.channels_last(x), (32, 32), interpolation="bilinear")


if __name__ == "__main__":
    sys.exit(main())
