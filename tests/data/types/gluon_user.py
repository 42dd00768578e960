"""A user's script; a type checker refuses the lines that end in `# refused`, and no others."""

from typing import assert_type

from mxnet.gluon import nn  # type: ignore[import-untyped]

from do_conv.gluon import (
    DepthwiseSeparableConv2D,
    DOConv2D,
    DOConv2DTranspose,
    convert,
    fold,
    plan,
)


class Network(nn.HybridSequential):  # type: ignore[misc]
    """A network of the user's own."""

    def embed(self) -> int:
        """Something that only this class has."""
        return 1


network = Network()
layer = DOConv2D(8, 3, 2, 1, d_mul=18, depthwise_init="he", prefix="conv_", params=None)
pair = DepthwiseSeparableConv2D.from_pair(nn.Conv2D(3, 3, groups=3), nn.Conv2D(8, 1))

assert_type(convert(network), Network)
fold(convert(network)).embed()
assert_type(pair, DepthwiseSeparableConv2D)
convert(network, where="layer1").embed()
plan(network, where="^0", composition="feature")

DOConv2D(8, 3, dmul=9)  # refused
DOConv2D(8, 3, D_mul=9)  # refused
DOConv2D(8, 3, depthwise_init="zeros")  # refused
DOConv2D(8, 3, composition="both")  # refused
DOConv2DTranspose(8, 3, dmul=9)  # refused
DepthwiseSeparableConv2D(8, 3, dmul=9)  # refused
layer.composition = "both"  # refused
convert(network, where=["layer1"])  # refused
convert(network, composition="both")  # refused
fold(network, inplace=True)  # refused
