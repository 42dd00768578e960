"""Training that changes in the middle from layers to the optimizer, or the other way."""

from twins import train

from do_conv.torch import DOConvOptimizer

SHAPE = (3, 8, 8)
HALF = 5


def both_halves(model, optimizer, shape=SHAPE):
    """Train in two halves, as a reference for a change in the middle."""
    train(model, optimizer, shape, HALF)
    train(model, optimizer, shape, HALF, seed=2)


def to_layers(model, optimizer, shape=SHAPE, **options):
    """Train half of the way in the optimizer, and half of it in layers."""
    train(model, optimizer, shape, HALF)
    converted, inner = optimizer.to_layers(**options)
    train(converted, inner, shape, HALF, seed=2)
    return converted, inner


def from_layers(layers, inner, shape=SHAPE, **options):
    """Train half of the way in layers, and half of it in the optimizer."""
    train(layers, inner, shape, HALF)
    model, optimizer = DOConvOptimizer.from_layers(inner, layers, **options)
    train(model, optimizer, shape, HALF, seed=2)
    return model, optimizer


def assert_same(one, other, tolerance):
    """Assert that two models have the same parameters and buffers, of which some have moved."""
    one, other = one.state_dict(), other.state_dict()
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype
        assert (tensor - other[name]).abs().max() <= tolerance, name
    deltas = [
        tensor.abs().max() for name, tensor in one.items() if name.endswith("depthwise_delta")
    ]
    assert min(deltas) > 1e-4
