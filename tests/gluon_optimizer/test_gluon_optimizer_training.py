"""Training a plain network with `DOConvTrainer` is training its layers, to rounding."""

import do_conv.gluon  # before mxnet, which reads names that this module restores

# isort: split
import mxnet as mx
import numpy as np
import pytest
from gluon_twins import (
    SGD,
    SHAPE,
    batches,
    child,
    difference,
    first,
    network,
    started,
    train,
    twins,
    values,
)
from mxnet import autograd, gluon
from mxnet.gluon import nn

from do_conv import DOConvError
from do_conv.gluon import DOConvTrainer, convert, fold, plan

OPTIMIZERS = {
    "momentum": ("sgd", SGD, 1e-12),
    "plain": ("sgd", {"learning_rate": 0.1}, 1e-12),
    "nesterov": ("nag", SGD, 1e-12),
    "adam": ("adam", {"learning_rate": 0.01, "wd": 0.01}, 1e-10),
    "schedule": (
        "adam",
        {"learning_rate": 0.01, "lr_scheduler": mx.lr_scheduler.FactorScheduler(5, 0.5)},
        1e-10,
    ),
    "nadam": ("nadam", {"learning_rate": 0.01, "wd": 0.01}, 1e-10),
    "lamb": ("lamb", {"learning_rate": 0.01, "wd": 0.01}, 1e-10),
    "ftml": ("ftml", {"learning_rate": 0.01, "wd": 0.01, "epsilon": 1e-4}, 1e-10),
    "clipped": ("sgd", {**SGD, "clip_gradient": 0.02}, 1e-12),
}
CHOICES = {
    "identity": {},
    "he": {"depthwise_init": "he"},
    "large d_mul": {"d_mul": 20},
    "large d_mul, he": {"d_mul": 11, "depthwise_init": "he"},
}


class Standardized(nn.Conv2D):
    """A convolution with a forward pass of its own."""

    def hybrid_forward(self, F, x, weight, bias=None):  # noqa: N803
        weight = F.broadcast_sub(weight, F.mean(weight, axis=(1, 2, 3), keepdims=True))
        return super().hybrid_forward(F, x, weight, bias)


def own_forward(dtype="float64"):
    net = nn.HybridSequential(prefix="own_")
    net.add(Standardized(8, 3, in_channels=3), nn.Activation("tanh"))
    net.add(nn.Conv2D(4, 1), nn.Conv2D(4, 2))
    return started(net, dtype, SHAPE)


def of_one_axis(dtype="float64"):
    net = nn.HybridSequential(prefix="one_")
    net.add(nn.Conv1D(8, 5, padding=2), nn.Activation("tanh"), nn.Conv1D(8, 3, groups=4))
    net.add(nn.Conv1DTranspose(2, 4, 2))
    return started(net, dtype, (3, 12))


def of_three_axes(dtype="float64"):
    net = nn.HybridSequential(prefix="three_")
    net.add(nn.Conv3D(4, (1, 2, 3)), nn.Activation("tanh"), nn.Conv3D(4, 2, groups=2))
    return started(net, dtype, (2, 4, 4, 4))


NETWORKS = {
    "own forward": (own_forward, SHAPE),
    "1-D": (of_one_axis, (3, 12)),
    "3-D": (of_three_axes, (2, 4, 4, 4)),
}


def assert_trains_as_layers(net, optimizer, options, tolerance, shape=SHAPE, **choices):
    start = values(net)
    net, trainer, layers, expected = twins(net, optimizer, options, **choices)
    train(net, trainer, shape)
    train(layers, expected, shape)
    assert difference(net, trainer, layers) <= tolerance
    for name, kernel in trainer.kernels.items():
        moved = np.abs(first(kernel.parameter) - start[f"{name}.weight"]).max()
        assert moved > 0.005, name
        assert np.abs(first(kernel.delta)).max() > 0.001, name


@pytest.mark.parametrize("choices", CHOICES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_twenty_steps_are_those_of_the_layers(name, choices):
    assert_trains_as_layers(network(), *OPTIMIZERS[name], **CHOICES[choices])


@pytest.mark.parametrize("choices", CHOICES)
@pytest.mark.parametrize("name", NETWORKS)
def test_other_ranks_and_layers_with_a_forward_pass_of_their_own(name, choices):
    make, shape = NETWORKS[name]
    assert_trains_as_layers(make(), "sgd", SGD, 1e-12, shape, **CHOICES[choices])


class Unseen(nn.Conv2D):
    """A forward pass whose own code does not show that it reads the weight."""

    def hybrid_forward(self, F, *arrays, **parameters):  # noqa: N803
        return super().hybrid_forward(F, *arrays, **parameters)


def test_a_layer_that_convert_leaves_is_trained_and_cannot_become_one_of_ours():
    net, layers = network(), convert(network())
    net[0].__class__ = Unseen
    start = values(net)
    assert "0" not in [row.name for row in plan(net).converted]
    assert "0" in [row.name for row in plan(net, door="optimizer").converted]
    trainer = DOConvTrainer(net, "sgd", SGD)
    train(net, trainer)
    train(layers, gluon.Trainer(layers.collect_params(), "sgd", SGD))
    assert difference(net, trainer, layers) <= 1e-12
    assert np.abs(first(net[0].weight) - start["0.weight"]).max() > 0.005
    with pytest.raises(DOConvError, match="layer '0', because its own forward pass is not seen"):
        trainer.to_layers()


@pytest.mark.parametrize("choices", CHOICES)
@pytest.mark.parametrize(
    ("optimizer", "options"),
    [("sgd", SGD), ("nag", SGD), ("adam", {"learning_rate": 0.01, "epsilon": 1e-4})],
)
def test_twenty_steps_in_float32(optimizer, options, choices):
    assert_trains_as_layers(network("float32"), optimizer, options, 1e-5, **CHOICES[choices])


@pytest.mark.parametrize("graph", [{}, {"static_alloc": True, "static_shape": True}])
@pytest.mark.parametrize("choices", CHOICES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_hybridized_networks(dtype, choices, graph):
    net = network(dtype)
    net.hybridize(**graph)
    assert_trains_as_layers(net, "sgd", SGD, {"float32": 1e-5, "float64": 1e-12}[dtype],
                            **CHOICES[choices])  # fmt: skip


def test_chosen_layers_and_sizes_by_layer():
    choices = {"where": lambda name, layer: name != "5", "d_mul": lambda spec: spec.area + 3}
    _, trainer, *_ = twins(network(), **choices)
    assert list(trainer.kernels) == ["0", "3", "7"]
    assert [kernel.spec.d_mul for kernel in trainer.kernels.values()] == [12, 6, 7]
    assert_trains_as_layers(network(), "sgd", SGD, 1e-12, **choices)


def symbol_of(net, dtype, path):
    """A network as it comes from files: a graph."""
    net.hybridize()
    net(next(batches(net)))
    mx.nd.waitall()
    net.export(str(path / "net"))
    files = str(path / "net-symbol.json"), ["data"], str(path / "net-0000.params")
    return gluon.SymbolBlock.imports(*files)


@pytest.mark.parametrize("inside", [False, True], ids=["alone", "with a head"])
@pytest.mark.parametrize("choices", CHOICES)
def test_the_kernels_of_a_graph(choices, inside, tmp_path):
    net, layers = network(), convert(network(), **CHOICES[choices])
    graph = symbol_of(network(), "float64", tmp_path)
    found = graph
    if inside:
        found = nn.HybridSequential()
        found.add(graph)
    trainer = DOConvTrainer(found, "sgd", SGD, **CHOICES[choices])
    prefix = "0." if inside else ""
    names = [f"{prefix}net_conv{i}_fwd" for i in range(3)] + [f"{prefix}net_conv3_fwd"]
    assert list(trainer.kernels) == names
    planned = plan(found, door="optimizer").converted
    assert [row.name for row in planned] == names
    assert not plan(found).converted  # `convert` cannot open a graph
    for kernel, name in zip(trainer.kernels.values(), ("0", "3", "5", "7"), strict=True):
        layer = child(layers, name)
        layer.weight.set_data(kernel.weight.data())
        layer.depthwise_delta.set_data(kernel.delta.data())
    train(found, trainer)
    train(layers, gluon.Trainer(layers.collect_params(), "sgd", SGD))
    folded = {p.name: first(p) for p in fold(layers).collect_params().values()}
    after = {p.name: first(p) for p in found.collect_params().values()}
    assert after.keys() == folded.keys() == {p.name for p in net.collect_params().values()}
    for name, value in after.items():
        np.testing.assert_allclose(value, folded[name], rtol=0, atol=1e-12)
    for kernel in trainer.kernels.values():
        assert np.abs(first(kernel.delta)).max() > 0.001


def test_kernels_of_a_graph_that_are_left():
    sym = mx.sym
    x = sym.var("data")
    shared = sym.var("shared")
    x = sym.Convolution(x, shared, kernel=(3, 3), num_filter=3, pad=(1, 1), no_bias=True, name="a")
    x = sym.Convolution(x, sym.var("one"), kernel=(1, 1), num_filter=3, no_bias=True, name="b")
    scaled = sym.var("scaled") * 2
    x = sym.Convolution(x, scaled, kernel=(3, 3), num_filter=3, no_bias=True, name="c")
    x = sym.Convolution(x, sym.var("kept"), kernel=(2, 2), num_filter=3, no_bias=True, name="d")
    x = sym.broadcast_add(x, sym.mean(shared))
    graph = gluon.SymbolBlock([x], [sym.var("data")])
    for name, shape in {"shared": 3, "one": 1, "scaled": 3, "kept": 2}.items():
        graph.params[name].shape = (3, 3, shape, shape)
    graph.initialize()
    trainer = DOConvTrainer(graph, "sgd", SGD)
    assert list(trainer.kernels) == ["d"]
    assert trainer.kernels["d"].parameter is graph.params["kept"]
    with pytest.raises(do_conv.DOConvError, match=r"left for \d reasons"):
        DOConvTrainer(graph, "sgd", SGD, where="nothing")


@pytest.mark.parametrize("choices", CHOICES)
def test_a_kernel_in_half_precision_has_both_in_float32(choices):
    """MXNet has no float16 convolution on a CPU: the loss reads the kernels themselves."""
    nets, trainers = [], []
    for dtype in ("float16", "float32"):
        net = nn.HybridSequential(prefix="half_")
        net.add(nn.Conv2D(4, 3, in_channels=2), nn.Conv2D(4, (1, 2), groups=2, in_channels=4))
        net.initialize(mx.init.Xavier())
        for parameter, seed in zip(net.collect_params().values(), range(4), strict=True):
            drawn = np.random.default_rng(seed).normal(0, 0.3, parameter.shape)
            parameter.set_data(mx.nd.array(drawn.astype("float16")))
        net.cast(dtype)
        options = {**SGD, "multi_precision": True}
        mx.random.seed(5)
        trainers.append(DOConvTrainer(net, "sgd", options, **CHOICES[choices]))
        nets.append(net)
    for kernel in trainers[0].kernels.values():
        assert {np.dtype(kernel.weight.dtype), np.dtype(kernel.delta.dtype)} == {np.dtype("f4")}
    for step in range(20):
        for net, trainer in zip(nets, trainers, strict=True):
            with autograd.record():
                loss = sum(
                    (p.data() * (step % 3 - 1.25)).sum() for p in net.collect_params().values()
                )
            loss.backward()
            trainer.step(4)
    for half, single in zip(*(t.kernels.values() for t in trainers), strict=True):
        for one, other in ((half.weight, single.weight), (half.delta, single.delta)):
            # The C loops step the one, and compute only the gradients of the other.
            np.testing.assert_allclose(first(one), first(other), rtol=1e-5, atol=1e-6)
        composed = first(half.parameter)
        assert composed.dtype == "float16"
        rounding = np.finfo("float16").eps
        np.testing.assert_allclose(composed, first(single.parameter), rtol=rounding, atol=1e-5)
        assert np.abs(first(half.delta)).max() > 0.01
