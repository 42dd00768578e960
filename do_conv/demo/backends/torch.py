"""The demo's network in PyTorch."""

from __future__ import annotations

from typing import Any

import do_conv.torch as do_torch  # isort: skip  # says what is missing before torch is imported
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from do_conv.demo import network
from do_conv.demo.network import Start


class Network:
    """See `do_conv.demo.backends.Network`."""

    def __init__(self, start: Start, over_parameterized: bool) -> None:
        layer = do_torch.DOConv2d if over_parameterized else nn.Conv2d
        convolutions: list[Any] = [
            layer(i, o, network.KERNEL, padding=network.PADDING) for i, o in network.CHANNELS
        ]
        features, classes = start.linear.shape
        linear = nn.Linear(features, classes)
        with torch.no_grad():
            for convolution, kernel in zip(convolutions, start.kernels, strict=True):
                convolution.weight.copy_(torch.from_numpy(kernel))
                convolution.bias.zero_()
            linear.weight.copy_(torch.from_numpy(start.linear.T))
            linear.bias.zero_()
        self._assemble(convolutions, linear)

    def _assemble(self, convolutions: list[Any], linear: nn.Linear) -> None:
        layers: list[nn.Module] = []
        for index, convolution in enumerate(convolutions):
            layers += [convolution, nn.ReLU()]
            if index == network.POOL_AFTER:
                layers.append(nn.MaxPool2d(2))
        self._convolutions, self._linear = convolutions, linear
        self._model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)
        self._optimizer = torch.optim.SGD(self._model.parameters(), network.RATE, network.MOMENTUM)

    def train(self, x: np.ndarray, y: np.ndarray) -> None:
        """One step of SGD on a batch."""
        loss = functional.cross_entropy(
            self._model(torch.from_numpy(x)), torch.from_numpy(y).long()
        )
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()

    @torch.no_grad()
    def logits(self, x: np.ndarray) -> np.ndarray:
        """The outputs for images."""
        return self._model(torch.from_numpy(x)).numpy()

    def fold(self) -> Network:
        """The same network with plain layers."""
        folded = object.__new__(Network)
        folded._assemble([layer.fold() for layer in self._convolutions], self._linear)
        return folded

    def parameters(self) -> int:
        """How many numbers it holds."""
        return sum(parameter.numel() for parameter in self._model.parameters())

    def kernels(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """W and D' of each convolution."""
        return [
            (layer.weight.detach().numpy(), layer.depthwise_delta.detach().numpy())
            for layer in self._convolutions
        ]
