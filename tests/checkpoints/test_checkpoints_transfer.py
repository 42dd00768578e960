"""Weights go from any framework to any other: every case of the table, and a small network."""

import do_conv.gluon  # noqa: F401 - before mxnet, which reads names that this module restores

# isort: split
import keras
import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn as gluon_nn
from torch import nn

from do_conv import checkpoints, frameworks, gluon, tf
from do_conv import torch as do_torch
from do_conv.checkpoints.neutral import transfer
from do_conv.parity import layer
from do_conv.parity.cases import CASES

FRAMEWORKS = tuple(frameworks.BACKENDS)
PAIRS = [(a, b) for a in FRAMEWORKS for b in FRAMEWORKS]
TOLERANCE = 1e-6


def new_layer(framework, case):
    return frameworks.adapter(framework).layer(case, "float32")


def give(model, arrays):
    """Write the core's arrays into a layer, where it says that they are."""
    (one,) = transfer.layers_of(model)
    roles = {"weight": arrays.weight, "bias": arrays.bias}
    roles["depthwise_weight" if one.description.kind == "separable" else "depthwise_delta"] = (
        arrays.delta
    )
    given = {role: array for role, array in roles.items() if array is not None}
    assert {role: array.shape for role, array in one.arrays.items()} == {
        role: array.shape for role, array in given.items()
    }
    for role, array in one.arrays.items():
        array.write(given[role])


def run(model, x):
    return frameworks.adapter(frameworks.of(model)).run(model, x)


def difference(found, expected):
    return abs(found - expected).max() / abs(expected).max()


Separable = (
    do_torch.separable._DepthwiseSeparable,
    gluon.separable._DepthwiseSeparable,
    tf.separable._DepthwiseSeparable,
)


def pairs_of(case):
    offered = {f for f in FRAMEWORKS if frameworks.adapter(f).not_offered(case) is None}
    return [(a, b) for a, b in PAIRS if {a, b} <= offered]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_layer(case, tmp_path):
    """The core's arrays in one framework, and then in another; folded or not in each."""
    arrays, path = layer.arrays(case, "float32"), tmp_path / "layer.safetensors"
    expected = layer.core_results(case, arrays)["output"]
    for source, target in pairs_of(case):
        before = new_layer(source, case)
        give(before, arrays)
        folded = before.fold()
        for one in (before, folded):
            assert difference(run(one, arrays.x), expected) < TOLERANCE, source
            checkpoints.save(one, path)
            for after in (new_layer(target, case), new_layer(target, case).fold()):
                if case.kind == "separable" and one is folded and isinstance(after, Separable):
                    continue  # one layer cannot be of two
                checkpoints.load(after, path)
                found = run(after, arrays.x)
                assert difference(found, expected) < TOLERANCE, (source, target, one, after)


def torch_network():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
        nn.Conv2d(8, 6, 1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.ConvTranspose2d(6, 4, 2, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 5),
    )


def gluon_network():
    network = gluon_nn.HybridSequential()
    network.add(
        gluon_nn.Conv2D(8, 3, 2, 1),
        gluon_nn.BatchNorm(),
        gluon_nn.Activation("relu"),
        gluon_nn.Conv2D(8, 3, 1, 1, groups=8, use_bias=False, in_channels=8),
        gluon_nn.Conv2D(6, 1),
        gluon_nn.BatchNorm(),
        gluon_nn.Activation("relu"),
        gluon_nn.Conv2DTranspose(4, 2, 2),
        gluon_nn.GlobalAvgPool2D(),
        gluon_nn.Flatten(),
        gluon_nn.Dense(5),
    )
    network.initialize()
    network(mx.nd.zeros((1, 3, 8, 8)))
    return network


def keras_network():
    layers = keras.layers
    names = iter(["0", "1", "3", "4", "5", "7", "10"])
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.ZeroPadding2D(1),
            layers.Conv2D(8, 3, 2, name=next(names)),
            layers.BatchNormalization(epsilon=1e-5, name=next(names)),
            layers.ReLU(),
            layers.DepthwiseConv2D(3, padding="same", use_bias=False, name=next(names)),
            layers.Conv2D(6, 1, name=next(names)),
            layers.BatchNormalization(epsilon=1e-5, name=next(names)),
            layers.ReLU(),
            layers.Conv2DTranspose(4, 2, 2, name=next(names)),
            layers.GlobalAveragePooling2D(),
            layers.Dense(5, name=next(names)),
        ]
    )


NETWORKS = {"torch": torch_network, "gluon": gluon_network, "keras": keras_network}
CONVERT = {"torch": do_torch.convert, "gluon": gluon.convert, "keras": tf.convert}
X = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype("float32")


def trained(framework, converted=True):
    """A network none of whose arrays is as it starts."""
    network = NETWORKS[framework]()
    network = CONVERT[framework](network) if converted else network
    rng = np.random.default_rng(1)
    for one in transfer.layers_of(network):
        for role, array in one.arrays.items():
            drawn = 0.3 * rng.standard_normal(array.shape)
            array.write(1 + abs(drawn) if role == "running_var" else drawn)
    return network


@pytest.mark.parametrize(("source", "target"), PAIRS)
@pytest.mark.parametrize("match", ["name", "order", {"10": "10", "0": "0"}])
def test_a_network(source, target, match, tmp_path):
    before, path = trained(source), tmp_path / "network.safetensors"
    expected = run(before, X)
    names = ["0", "1", "3", "4", "5", "7", "10"]
    for one in (before, do_fold(source, before)):
        checkpoints.save(one, path)
        for converted in (False, True):
            after = trained(target, converted)
            assert checkpoints.load(after, path, match=match) == dict(
                zip(names, names, strict=True)
            )
            assert difference(run(after, X), expected) < TOLERANCE


def do_fold(framework, network):
    return {"torch": do_torch.fold, "gluon": gluon.fold, "keras": tf.fold}[framework](network)
