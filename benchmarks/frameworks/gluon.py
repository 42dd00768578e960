"""MXNet Gluon, imperative and hybridized."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from do_conv.gluon import DOConv2D  # before mxnet

# isort: split
import mxnet as mx
import numpy as np
from mxnet import autograd, gluon
from mxnet.gluon import nn

from do_conv.core.spec import Spec
from do_conv.gluon.composition import compose_spec

MODES = ("imperative", "hybridized")


def versions() -> dict[str, str]:
    """The version of MXNet."""
    return {"mxnet": mx.__version__}


def set_threads(threads: int) -> None:
    """MXNet takes what `OMP_NUM_THREADS` says when it is imported."""


class Authors(DOConv2D):
    """A layer of ours that composes by the authors' formula."""

    def hybrid_forward(self, F: Any, x: Any, weight: Any, bias: Any, depthwise_delta: Any) -> Any:  # noqa: N803
        """The plain layer's operator with that kernel."""
        kernel = authors_kernel(F, weight, depthwise_delta, self.spec)
        return F.Convolution(x, kernel, bias, **self._kwargs)


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
