"""Copies of Gluon networks: what hangs on a network, and is not to be copied or to be moved."""

import do_conv.gluon  # noqa: F401 - before mxnet, which reads names that this module restores

# isort: split
import mxnet as mx
from mxnet import gluon
from mxnet.gluon import HybridBlock, nn

from do_conv.gluon import DOConv2D, convert


def test_a_part_of_a_network_is_copied_without_the_rest(network):
    class Uncopyable(HybridBlock):
        def __deepcopy__(self, memo):
            raise AssertionError

    around = Uncopyable()
    with around.name_scope():
        part = nn.Conv2D(4, 3)
        # A block that has a child keeps the scope it was made in.
        around.part = part
        with part.name_scope():
            pass
    assert part._scope._old_scope is not None
    assert isinstance(convert(part), DOConv2D)


def test_a_layer_with_the_weight_of_another_network():
    other = nn.Conv2D(4, 3, in_channels=3)
    part = nn.Conv2D(4, 3, in_channels=3, use_bias=False, params=other.params)
    other.initialize()
    trainer = gluon.Trainer(other.collect_params(), "sgd")
    converted = convert(part)
    assert other.bias._trainer is trainer
    shared = converted.params._shared
    assert shared[converted.weight.name] is converted.weight
    assert not [one for one in shared.values() if one._trainer or one is other.bias]


def test_arrays_and_blocks_that_are_not_registered(x, same):
    class Holding(HybridBlock):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2D(4, 3)
            self.hidden = {nn.Dense(2, in_units=3)}
            self.fixed = [mx.nd.ones((2,), ctx=mx.cpu(1))]

        def hybrid_forward(self, F, x):  # noqa: N803
            return self.layer(x)

    net = Holding()
    (dense,) = net.hidden
    for block in (net, dense):
        block.initialize()
        block.hybridize()
    dense(mx.nd.ones((1, 3)))
    assert same(net(x), convert(net)(x))
    copied = convert(net)
    assert copied.fixed[0].context == mx.cpu(1)
    assert not copied.hidden & net.hidden
