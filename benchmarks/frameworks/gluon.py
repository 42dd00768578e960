"""MXNet Gluon, imperative and hybridized."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from do_conv.gluon import DOConv2D, DOConvTrainer, convert, fold  # before mxnet

# isort: split
import mxnet as mx
import numpy as np
from mxnet import autograd, gluon
from mxnet.gluon import nn
from mxnet.gluon.model_zoo import vision

from benchmarks import machine, turns
from do_conv.core.spec import Spec
from do_conv.gluon.composition import compose_spec

MODES = ("imperative", "hybridized")
NETWORKS: dict[str, Callable[[], Any]] = {
    "ResNet-18": vision.resnet18_v1,
    "ResNet-50": vision.resnet50_v1,
    "MobileNetV2": vision.mobilenet_v2_1_0,
}
# What is trained with W and D' in the trainer, by mode.
OPTIMIZED = dict.fromkeys(MODES, (("ResNet-18", 32, 4), ("ResNet-18", 32, 32)))
timed, rates = turns.wall_clock, machine.rates


def versions() -> dict[str, str]:
    """The version of MXNet."""
    return {"mxnet": mx.__version__}


def set_threads(threads: int) -> None:
    """MXNet takes what `OMP_NUM_THREADS` says when it is imported."""


class Authors(DOConv2D):
    """A layer of ours that composes by the authors' formula; a layer may be made one of them."""

    def hybrid_forward(self, F: Any, x: Any, weight: Any, **others: Any) -> Any:  # noqa: N803
        """The plain layer's operator with that kernel."""
        kernel = authors_kernel(F, weight, others["depthwise_delta"], self.spec)
        return F.Convolution(x, kernel, others.get("bias"), **self._kwargs)


def authors_kernel(F: Any, weight: Any, delta: Any, spec: Spec) -> Any:  # noqa: N803
    """W', without groups: an array of `(|K|, D_mul, C_in, C_out)` is summed over D_mul."""
    kernels = F.transpose(F.reshape(weight, shape=(0, 0, -1)), axes=(2, 1, 0))
    depthwise = F.transpose(F.reshape(delta, shape=(0, 0, -1)), axes=(2, 1, 0))
    identity = F.reshape(F.eye(spec.area), shape=(spec.area, spec.d_mul, 1))
    depthwise = F.expand_dims(F.broadcast_add(depthwise, identity), axis=3)
    composed = F.sum(F.broadcast_mul(depthwise, F.expand_dims(kernels, axis=0)), axis=1)
    return F.reshape(F.transpose(composed, axes=(2, 1, 0)), shape=spec.composed_shape)


def composing(spec: Spec, mode: str) -> dict[str, Callable[[], Any]]:
    """Forward and backward of W'."""
    rng = np.random.default_rng(0)
    shapes = (spec.weight_shape, spec.delta_shape)
    arrays = [mx.nd.array(rng.standard_normal(shape)) for shape in shapes]
    grad = mx.nd.array(rng.standard_normal(spec.composed_shape))
    formulas = {"authors": authors_kernel, "DO-Conv": compose_spec}
    if spec.groups > 1:
        del formulas["authors"]
    steps = {}
    for name, formula in formulas.items():
        steps[name] = _step(_Formula(formula, spec), arrays, grad, mode)
    return steps


class _Formula(gluon.HybridBlock):
    """A formula as a block, which can be hybridized."""

    def __init__(self, formula: Callable[..., Any], spec: Spec) -> None:
        super().__init__()
        self._formula, self._spec = formula, spec

    def hybrid_forward(self, F: Any, weight: Any, delta: Any) -> Any:  # noqa: N803
        """W'."""
        return self._formula(F, weight, delta, self._spec)


def training(spec: Spec, size: int, batch: int, mode: str) -> dict[str, Callable[[], Any]]:
    """A step of a layer whose output has its input's size, without an optimizer."""
    options: dict[str, Any] = {
        "padding": tuple(side // 2 for side in spec.kernel_size),
        "groups": spec.groups, "in_channels": spec.in_channels,
    }  # fmt: skip
    rng = np.random.default_rng(0)
    x = mx.nd.array(rng.standard_normal((batch, spec.in_channels, size, size)))
    grad = mx.nd.array(rng.standard_normal((batch, spec.out_channels, size, size)))
    classes = {"plain": nn.Conv2D, "authors": Authors, "DO-Conv": DOConv2D}
    if spec.groups > 1:
        del classes["authors"]
    steps = {}
    for name, layer_class in classes.items():
        layer = layer_class(spec.out_channels, spec.kernel_size, **options)
        layer.initialize()
        steps[name] = _step(layer, [x], grad, mode)
    return steps


def _step(block: Any, arrays: Any, grad: Any, mode: str) -> Callable[[], None]:
    if mode == "hybridized":
        block.hybridize(static_alloc=True, static_shape=True)
    for array in arrays:
        array.attach_grad()

    def step() -> None:
        with autograd.record():
            output = block(*arrays)
        output.backward(grad)
        mx.nd.waitall()

    return step


def training_network(name: str, size: int, batch: int, mode: str) -> dict[str, Callable[[], Any]]:
    """A training step of a network, with SGD."""
    x = mx.nd.random.normal(shape=(batch, 3, size, size))
    return {kind: _update(net, x) for kind, net in _variants(name, x, mode).items()}


def _variants(name: str, x: Any, mode: str) -> dict[str, Any]:
    plain = NETWORKS[name]()
    plain.initialize(mx.init.Xavier())
    plain(x)
    nets = {"plain": plain, "authors": by_authors(convert(plain)), "DO-Conv": convert(plain)}
    nets = {kind: net for kind, net in nets.items() if net is not None}
    for net in nets.values():
        net.hybridize(mode == "hybridized", static_alloc=True, static_shape=True)
    return nets


def by_authors(net: Any) -> Any:
    """The same network, whose layers of ours compose by the authors' formula; None with groups."""
    layers: list[Any] = []
    net.apply(lambda block: layers.append(block) if isinstance(block, DOConv2D) else None)
    if any(layer.spec.groups > 1 for layer in layers):
        return None
    for layer in layers:
        layer.__class__ = Authors
    return net


def _update(net: Any, x: Any, is_in_trainer: bool = False) -> Callable[[], None]:
    options = {"learning_rate": 1e-3, "momentum": 0.9}
    if is_in_trainer:
        trainer = DOConvTrainer(net, "sgd", options)
    else:
        trainer = gluon.Trainer(net.collect_params(), "sgd", options)

    def step() -> None:
        with autograd.record():
            loss = net(x).square().mean()
        loss.backward()
        trainer.step(1)
        mx.nd.waitall()

    return step


def evaluating_network(name: str, size: int, batch: int, mode: str) -> dict[str, Callable[[], Any]]:
    """Ten batches through a network."""
    x = mx.nd.random.normal(shape=(batch, 3, size, size))
    nets = _variants(name, x, mode)
    nets["folded"] = fold(nets["DO-Conv"])
    return {kind: _batches(net, x) for kind, net in nets.items()}


def _batches(net: Any, x: Any) -> Callable[[], None]:
    def evaluate() -> None:
        for _ in range(10):
            net(x)
        mx.nd.waitall()

    return evaluate


def optimizing_network(name: str, size: int, batch: int, mode: str) -> dict[str, Callable[[], Any]]:
    """A training step with SGD: with our layers, and with W and D' in the trainer."""
    x = mx.nd.random.normal(shape=(batch, 3, size, size))
    nets = _variants(name, x, mode)
    other = _variants(name, x, mode)["plain"]
    return {
        "plain": _update(nets["plain"], x),
        "DO-Conv": _update(nets["DO-Conv"], x),
        "optimizer": _update(other, x, is_in_trainer=True),
    }
