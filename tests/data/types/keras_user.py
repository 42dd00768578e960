"""A user's script; a type checker refuses the lines that end in `# refused`, and no others."""

import re
from typing import assert_type

import keras  # type: ignore[import-untyped]

from do_conv.tf import (
    DepthwiseSeparableConv2D,
    DOConv2D,
    DOConv2DTranspose,
    DODepthwiseConv2D,
    DOSeparableConv1D,
    convert,
    fold,
    plan,
)


class Network(keras.Model):  # type: ignore[misc]
    """A network of the user's own."""

    def embed(self) -> int:
        """Something that only this class has."""
        return 1


network = Network()
layer = DOConv2D(8, 3, 2, "same", d_mul=18, depthwise_init="he", name="conv", dtype="float64")
DODepthwiseConv2D(3, activation="relu", composition="feature", trainable=False)
DOSeparableConv1D(8, 3, depth_multiplier=2, d_mul=3)

assert_type(convert(network), Network)
fold(convert(network)).embed()
convert(network, where="layer1").embed()
convert(network, where=re.compile("layer1"), d_mul=lambda spec: 2 * spec.area)
plan(network, where="^0", composition="feature")

DOConv2D(8, 3, dmul=9)  # refused
DOConv2D(8, 3, D_mul=9)  # refused
DOConv2D(8, 3, depthwise_init="zeros")  # refused
DOConv2D(8, 3, composition="both")  # refused
DOConv2D(8, 3, name=3)  # refused
DODepthwiseConv2D(3, dmul=9)  # refused
DOSeparableConv1D(8, 3, dmul=9)  # refused
DepthwiseSeparableConv2D(8, 3, d_mul=9)  # refused
DOConv2DTranspose(8, 3, composition="feature")  # refused
DOConv2DTranspose(8, 3, dmul=9)  # refused
layer.composition = "both"  # refused
convert(network, where=["layer1"])  # refused
convert(network, depthwise_init="random")  # refused
fold(network, inplace=True)  # refused
