"""One training step on one and on two CPU devices: a program, since devices are fixed at its start.

It exits with an error if the weights differ. `KERAS_BACKEND` is "tensorflow" or "jax".
"""

import contextlib
import os

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"

import keras
import numpy as np

from do_conv.tf import DepthwiseSeparableConv2D, DOConv2D, DOConv2DTranspose


def tensorflow_scope():
    import tensorflow as tf

    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    assert strategy.num_replicas_in_sync == 2
    return strategy.scope()


def jax_scope():
    import jax

    jax.config.update("jax_disable_most_optimizations", True)
    parallel = keras.distribution.DataParallel()
    assert parallel.device_mesh.shape == (2,)
    return parallel.scope()


def trained(scope):
    with scope:
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((5, 5, 2)),
                DOConv2D(3, 2, depthwise_init="he"),
                DOConv2DTranspose(2, 2),
                DepthwiseSeparableConv2D(2, 2),
            ]
        )
        before = [np.array(value) for value in model.get_weights()]
        model.compile(keras.optimizers.SGD(0.5), "mse")
        random = np.random.default_rng(0)
        x, y = (random.standard_normal((8, size, size, 2)).astype("float32") for size in (5, 4))
        model.fit(x, y, batch_size=8, verbose=0)
        return before, model.get_weights()


two = {"tensorflow": tensorflow_scope, "jax": jax_scope}[keras.backend.backend()]()
(start, found), (_, expected) = trained(two), trained(contextlib.nullcontext())
for old, new, wanted in zip(start, found, expected, strict=True):
    assert abs(wanted - old).max() > 1e-3
    np.testing.assert_allclose(new, wanted, rtol=0, atol=1e-6)
