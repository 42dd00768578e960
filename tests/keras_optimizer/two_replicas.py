"""Training on two replicas, and on one, in a process that has two logical CPU devices."""

import json

import tensorflow as tf
from of_two_devices import compiled, network, x, y

from do_conv import DOConvError

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)


def trained(strategy):
    with strategy.scope():
        model = network()
        start = model.get_weights()
        compiled(model)
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
