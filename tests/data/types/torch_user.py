"""A user's script; a type checker refuses the lines that end in `# refused`, and no others."""

from typing import assert_type

import torch
from torch import nn
from torch.fx import GraphModule

from do_conv import choices
from do_conv.torch import (
    DepthwiseSeparableConv2d,
    DOConv1d,
    DOConv2d,
    DOConvTranspose3d,
    LazyDOConv2d,
    convert,
    fold,
    over_parameterize,
    plan,
)


class Network(nn.Module):
    """A network of the user's own."""

    def embed(self) -> int:
        """Something that only this class has."""
        return 1


network = Network()
layer = DOConv2d(3, 8, 3, 2, padding="valid", d_mul=18, depthwise_init="he", composition="feature")

assert_type(convert(network), Network)
assert_type(convert(nn.DataParallel(network)), Network)
assert_type(fold(convert(network)), Network)
fold(convert(torch.compile(network)))
assert_type(fold(nn.DataParallel(network)), Network)
assert_type(fold(network, fuse_batchnorm=True), GraphModule)
assert_type(layer.fold(), nn.Conv2d)
assert_type(layer.fuse(), nn.Conv2d)
assert_type(fold(layer), nn.Conv2d)
assert_type(fold(DOConv1d(3, 8, 3)), nn.Conv1d)
assert_type(LazyDOConv2d(8, 3).fold(), nn.Conv2d)
assert_type(fold(DOConvTranspose3d(3, 8, 3)), nn.ConvTranspose3d)
assert_type(DepthwiseSeparableConv2d(3, 8, 3).fold(), nn.Sequential)
assert_type(fold(DepthwiseSeparableConv2d(3, 8, 3)), nn.Sequential)
assert_type(over_parameterize(nn.Conv2d(3, 8, 3)), nn.Conv2d)
assert_type(
    DepthwiseSeparableConv2d.from_pair(nn.Conv2d(3, 3, 3, groups=3), nn.Conv2d(3, 8, 1)),
    DepthwiseSeparableConv2d,
)
convert(network, where="layer1").embed()
convert(network, where=choices.first(2), d_mul=lambda spec: 2 * spec.area)
convert(network, where=lambda name, layer: name != "stem")
plan(network, where="^0", composition="feature")

DOConv2d(3, 8, 3, dmul=9)  # refused
DOConv2d(3, 8, 3, D_mul=9)  # refused
DOConv2d(3, 8)  # refused
DOConv2d(3, 8, 3, d_mul=9.0)  # refused
DOConv2d(3, 8, 3, depthwise_init="zeros")  # refused
DOConv2d(3, 8, 3, composition="both")  # refused
DOConv2d(3, 8, 3, padding_mode="mirror")  # refused
layer.composition = "both"  # refused
convert(network, where=["layer1"])  # refused
convert(network, depthwise_init="random")  # refused
convert(network, composition="both")  # refused
convert(network.state_dict())  # refused
fold(network.state_dict())  # refused
layer.fold().composed_weight()  # refused
