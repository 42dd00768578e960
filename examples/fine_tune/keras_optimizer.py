#!/usr/bin/env python3
"""Fine-tune a network of Keras with DO-Conv in the optimizer; the network stays plain.

    python examples/fine_tune/keras_optimizer.py --network MobileNet --pretrained

Without `--pretrained` the network starts from random weights, and nothing is downloaded. It trains
as a converted network does, to rounding, and there is nothing to convert or to fold.
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
from do_conv.tf import DOConvOptimizer


def main(arguments: list[str] | None = None) -> int:
    """Train, and write the network and its optimizer after each epoch."""
    given = _arguments().parse_args(arguments)
    keras.utils.set_random_seed(given.seed)
    data = digits.load()
    weights = "imagenet" if given.pretrained else None
    make = getattr(applications, given.network)
    features = make(weights=weights, input_shape=(32, 32, 3), include_top=False, pooling="avg")
    for layer in features.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9  # Keras's own averages take thousands of steps
    classes = keras.layers.Dense(10)  # the classifier of the digits
    network = keras.Model(features.input, classes(features.output))
    sgd = keras.optimizers.SGD(given.rate, momentum=0.9, weight_decay=1e-4)
    optimizer = DOConvOptimizer(sgd, network, depthwise_init=given.depthwise_init)
    network.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,  # to compile takes longer than to train on so few images
    )
    for epoch in range(given.epochs):
        for step, (x, y) in enumerate(digits.batches(data, given.seed, epoch)):
            if step == given.steps:
                break
            network.train_on_batch(_images(x), y)
        right = network.predict(_images(data.test_x), verbose=0).argmax(1) == data.test_y
        print(f"epoch {epoch + 1}: test accuracy {100 * right.mean():.1f} %")
        # The layers are those of Keras; W and D' are in the optimizer's part of the file.
        with replacing(given.out) as file:
            network.save(file)
    print(f"{len(optimizer.kernels)} kernels were trained as W and D'")
    print(f"wrote {given.out}, the plain network with its optimizer")
    return 0


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--network", default="MobileNet", help="a name that keras.applications knows")
    add("--pretrained", action="store_true", help="begin with weights that it downloads")
    add("--depthwise-init", choices=("identity", "he"), default="identity", help="of D")
    add("--epochs", type=int, default=5)
    add("--steps", type=int, help="at most so many steps in an epoch")
    add("--rate", type=float, default=0.01, help="the learning rate")
    add("--seed", type=int, default=0)
    add("--out", type=_keras_file, default=Path("digits.keras"), help="where the network goes")
    return parser


def _keras_file(name: str) -> Path:
    if not name.endswith(".keras"):
        raise argparse.ArgumentTypeError(f"Keras's model files end in .keras; not so {name}")
    return Path(name)


def _images(x: Any) -> Any:
    """The digits, four times as large and in three colours, as the network takes them."""
    colours = keras.ops.repeat(layouts.channels_last(x), 3, axis=-1)
    return keras.ops.image.resize(colours, (32, 32), interpolation="bilinear")


if __name__ == "__main__":
    sys.exit(main())
