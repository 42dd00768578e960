"""The demo's network in MXNet Gluon."""

from __future__ import annotations

from typing import Any

import do_conv.gluon as do_gluon  # isort: skip  # prepares NumPy before MXNet is imported
import mxnet as mx
import numpy as np
from mxnet import autograd, gluon, nd
from mxnet.gluon import nn

from do_conv.demo import network
from do_conv.demo.network import Start


class Network:
    """See `do_conv.demo.backends.Network`."""

    def __init__(self, start: Start, over_parameterized: bool) -> None:
        layer = do_gluon.DOConv2D if over_parameterized else nn.Conv2D
        options: Any = {"padding": network.PADDING, "activation": "relu"}
        convolutions = [
            layer(o, network.KERNEL, in_channels=i, **options) for i, o in network.CHANNELS
        ]
        features, classes = start.linear.shape
        linear = nn.Dense(classes, in_units=features)
        for block in (*convolutions, linear):
            block.initialize(mx.init.Zero())
        for convolution, kernel in zip(convolutions, start.kernels, strict=True):
            convolution.weight.set_data(nd.array(kernel))
        linear.weight.set_data(nd.array(start.linear.T))
        self._assemble(convolutions, linear)

    def _assemble(self, convolutions: list[Any], linear: Any) -> None:
        self._model = nn.HybridSequential()
        for index, convolution in enumerate(convolutions):
            self._model.add(convolution)
            if index == network.POOL_AFTER:
                self._model.add(nn.MaxPool2D(2))
        self._model.add(nn.GlobalAvgPool2D(), nn.Flatten(), linear)
        self._model.hybridize()
        self._convolutions, self._linear = convolutions, linear
        self._loss = gluon.loss.SoftmaxCrossEntropyLoss()
        options = {"learning_rate": network.RATE, "momentum": network.MOMENTUM}
        self._trainer = gluon.Trainer(self._model.collect_params(), "sgd", options)

    def train(self, x: np.ndarray, y: np.ndarray) -> None:
        """One step of SGD on a batch."""
        with autograd.record():
            loss = self._loss(self._model(nd.array(x)), nd.array(y))
        loss.backward()
        self._trainer.step(len(x))

    def logits(self, x: np.ndarray) -> np.ndarray:
        """The outputs for images."""
        return self._model(nd.array(x)).asnumpy()

    def fold(self) -> Network:
        """The same network with plain layers."""
        folded = object.__new__(Network)
        folded._assemble([layer.fold() for layer in self._convolutions], self._linear)
        return folded

    def parameters(self) -> int:
        """How many numbers it holds."""
        shapes = [parameter.shape for parameter in self._model.collect_params().values()]
        return int(sum(np.prod(shape) for shape in shapes))

    def kernels(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """W and D' of each convolution."""
        return [
            (layer.weight.data().asnumpy(), layer.depthwise_delta.data().asnumpy())
            for layer in self._convolutions
        ]
