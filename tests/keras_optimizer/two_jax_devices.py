"""Training on two CPU devices of JAX, and on one: a program, since devices are fixed at its start.

It exits with an error if the networks or the W and D' differ, or if a kernel that is written
between two steps is not refused.
"""

import contextlib
import os

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
os.environ["KERAS_BACKEND"] = "jax"

import jax
import keras
import numpy as np
from of_two_devices import compiled, network, x, y

from do_conv import DOConvError

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_disable_most_optimizations", True)


def trained(scope):
    with scope:
        model = network()
        compiled(model)
        start = values(model)
        model.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0)
    return model, start


def values(model):
    """The network, and everything that its optimizer has."""
    variables = [*model.weights, *model.optimizer.variables]
    return [np.array(keras.ops.convert_to_numpy(one)) for one in variables]


parallel = keras.distribution.DataParallel()
assert parallel.device_mesh.shape == (2,)
(one, start), (two, same_start) = trained(contextlib.nullcontext()), trained(parallel.scope())
kernel = two.layers[0].kernel
assert len(kernel.value.sharding.device_set) == 2
moved = [abs(now - old).max() for now, old in zip(values(two), start, strict=True)]
assert min(moved[: len(two.weights)]) > 1e-3, moved
for of_one, of_two in ((start, same_start), (values(one), values(two))):
    for expected, found in zip(of_one, of_two, strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)

raised = ""
with parallel.scope():
    kernel.assign(1.5 * keras.ops.convert_to_numpy(kernel))
    before = values(two)
    try:
        two.fit(x, y, batch_size=8, verbose=0)
    except DOConvError as error:
        raised = str(error)
assert "layer 'conv' written since" in raised, raised
for now, old in zip(values(two), before, strict=True):
    np.testing.assert_array_equal(now, old)
