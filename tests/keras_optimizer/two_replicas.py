"""Training on two replicas, and on one, in a process that has two logical CPU devices."""

import json

import keras
import numpy as np
import tensorflow as tf

from do_conv import DOConvError
from do_conv.tf import DOConvOptimizer

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
random = np.random.default_rng(0)
x, y = random.standard_normal((16, 4, 4, 4)), random.standard_normal((16, 2))


def trained(strategy):
    with strategy.scope():
        keras.utils.set_random_seed(1)
        layers = [
            keras.layers.Conv2D(4, 2, groups=2, activation="tanh", name="conv", dtype="float64"),
            keras.layers.Flatten(dtype="float64"),
            keras.layers.Dense(2, dtype="float64"),
        ]
        model = keras.Sequential([keras.Input((4, 4, 4), dtype="float64"), *layers])
        start = model.get_weights()
        inner = keras.optimizers.SGD(0.02, momentum=0.9, weight_decay=1e-2)
        model.compile(DOConvOptimizer(inner, model, depthwise_init="he"), "mse")
        model.optimizer.build(model.trainable_variables)
    model.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0)
    return model, start


def difference(one, other):
    return max(float(abs(a - b).max()) for a, b in zip(one, other, strict=True))


one, start = trained(tf.distribute.get_strategy())
two, _ = trained(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
apart = difference(one.get_weights(), two.get_weights())
moved = difference(two.get_weights(), start)
raised = ""
with two.distribute_strategy.scope():
    two.layers[0].kernel.assign(1.5 * two.layers[0].get_weights()[0])
before = two.get_weights()
try:
    two.fit(x, y, batch_size=8, verbose=0)
except DOConvError as error:
    raised = str(error)
assert difference(two.get_weights(), before) == 0
print(json.dumps([apart, moved, raised]))
