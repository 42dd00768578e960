"""A Gluon checkpoint of the authors' layers in a network."""

import inspect

import numpy as np
import pytest

pytest.importorskip("do_conv.gluon")

import mxnet as mx
from mxnet.gluon import nn

from do_conv import checkpoints
from do_conv.gluon.authors import DOConv2D


def plain(in_channels, channels, kernel_size, **options):
    return nn.Conv2D(channels, kernel_size, in_channels=in_channels, **options)


def network(make, config, *, use_bias):
    """The layer of a sample between two batch normalizations, then slopes."""
    config = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}
    config.pop("D_mul")
    net = nn.HybridSequential()
    net.add(nn.BatchNorm(in_channels=config["in_channels"]))
    net.add(make(**config, use_bias=use_bias))
    net.add(nn.BatchNorm(in_channels=config["channels"]))
    net.add(nn.PReLU(in_channels=config["channels"]))
    net.initialize()
    return net


@pytest.mark.parametrize("make", [DOConv2D, plain])
@pytest.mark.parametrize(
    "name",
    ["gluon_conv3x3", "gluon_conv3x3_nobias", "gluon_conv_3x5", "gluon_group4_of8_out16",
     "gluon_pointwise"],
)  # fmt: skip
def test_a_network_of_either_kind(name, make, load_sample, tmp_path):
    sample = load_sample(name)
    options = {"use_bias": "bias" in sample.state}
    others = network(plain, sample.config, **options)
    others.save_parameters(str(tmp_path / "others.params"))
    stored = mx.nd.load(str(tmp_path / "others.params"))
    stored = {key: array for key, array in stored.items() if not key.startswith("1.")}
    for key in ("0.running_mean", "3.alpha"):
        stored[key] = mx.nd.ones_like(stored[key])
    theirs = {f"1.{key}": mx.nd.array(v, dtype=v.dtype) for key, v in sample.state.items()}
    mx.nd.save(str(tmp_path / "in.params"), {**stored, **theirs})
    net = network(make, sample.config, **options)
    # A plain layer of 1 x 1 is stored under its own names; then nothing is the authors'.
    if name == "gluon_pointwise":
        with pytest.raises(ValueError, match="must hold a layer of the original authors"):
            checkpoints.import_authors(net, tmp_path / "in.params")
        return
    checkpoints.import_authors(net, tmp_path / "in.params")
    sample.assert_same_output(net[1](mx.nd.array(sample.x)).asnumpy())
    np.testing.assert_array_equal(net[0].running_mean.data().asnumpy(), 1)
    np.testing.assert_array_equal(net[3].alpha.data().asnumpy(), 1)


def test_the_arguments_are_theirs_in_their_order():
    parameters = inspect.signature(DOConv2D).parameters
    assert list(parameters)[:13] == [
        "in_channels", "channels", "kernel_size", "strides", "padding", "dilation", "groups",
        "layout", "activation", "use_bias", "weight_initializer", "bias_initializer",
        "do_conv_dtype",
    ]  # fmt: skip
    layer = DOConv2D(4, 6, 3, 2, 1)
    assert (layer._kwargs["stride"], layer._kwargs["num_filter"]) == ((2, 2), 6)
