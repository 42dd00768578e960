"""The network, its optimizer and the batches of the programs that train on two devices."""

import keras
import numpy as np

from do_conv.tf import DOConvOptimizer

random = np.random.default_rng(0)
x, y = random.standard_normal((16, 4, 4, 4)), random.standard_normal((16, 2))


def network():
    keras.utils.set_random_seed(1)
    layers = [
        keras.layers.Conv2D(4, 2, groups=2, activation="tanh", name="conv", dtype="float64"),
        keras.layers.Flatten(dtype="float64"),
        keras.layers.Dense(2, dtype="float64"),
    ]
    return keras.Sequential([keras.Input((4, 4, 4), dtype="float64"), *layers])


def compiled(model):
    inner = keras.optimizers.SGD(0.02, momentum=0.9, weight_decay=1e-2)
    model.compile(DOConvOptimizer(inner, model, depthwise_init="he"), "mse")
    model.optimizer.build(model.trainable_variables)
