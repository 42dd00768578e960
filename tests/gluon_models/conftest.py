"""Networks that several files convert."""

import do_conv.gluon  # noqa: F401 - before mxnet, which reads names that this module restores

# isort: split
import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import HybridBlock, nn


class Net(HybridBlock):
    """Convolutions of several kinds, one of them used twice, and a pair with one weight."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.first = nn.Conv2D(6, 3, padding=1, use_bias=False)
            self.norm = nn.BatchNorm()
            self.body = nn.HybridSequential()
            with self.body.name_scope():
                self.body.add(
                    nn.Conv2D(6, 3, padding=1, groups=6, activation="relu"), nn.Conv2D(6, 1)
                )
            self.twice = nn.Conv2D(6, (1, 3), padding=(0, 1), in_channels=6)
            self.again = self.twice
            self.tied = nn.Conv2D(
                6, (1, 3), padding=(0, 1), in_channels=6, params=self.twice.params
            )
            self.up = nn.Conv2DTranspose(2, 4, 2, 1)

    def hybrid_forward(self, F, x):  # noqa: N803
        x = self.body(F.relu(self.norm(self.first(x))))
        x = F.relu(self.again(F.relu(self.twice(x))))
        return self.up(F.relu(self.tied(x)))


@pytest.fixture(autouse=True)
def _seed():
    mx.random.seed(3)


def batch(dtype="float32"):
    return mx.nd.random.normal(shape=(2, 3, 8, 8), dtype=dtype)


@pytest.fixture
def x():
    return batch()


@pytest.fixture
def fresh():
    """A function that makes a network which has not seen an input, initialized or not."""

    def make(initialized=True):
        net = Net(prefix="net_")
        if initialized:
            net.initialize(mx.init.Xavier())
        return net

    return make


@pytest.fixture
def network(fresh, x):
    """A network with parameters and running averages."""
    net = fresh()
    with mx.autograd.train_mode():
        net(x)
    mx.nd.waitall()
    return net


def trained(model):
    """The model with D' as training leaves them."""
    mx.nd.waitall()
    for parameter in model.collect_params(".*depthwise_delta").values():
        drawn = mx.nd.random.normal(0, 0.2, parameter.shape, dtype=parameter.dtype)
        parameter.set_data(drawn)
    return model


@pytest.fixture(name="trained")
def trained_fixture():
    return trained


@pytest.fixture
def same():
    """A function that says whether two arrays are the same to the last bit."""
    return lambda one, other: np.array_equal(one.asnumpy(), other.asnumpy())


@pytest.fixture
def described():
    """A function that says what a network is made of: types, attributes, names and shapes."""
    return lambda model: (
        repr(model),
        [(type(block), sorted(vars(block))) for block in _all(model)],
        [(n, p.name, p.shape) for n, p in model._collect_params_with_prefix().items()],
        [(n, p.shape) for n, p in model.collect_params().items()],
    )


def _all(block):
    yield block
    for child in block._children.values():
        yield from _all(child)
