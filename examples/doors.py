"""The two ways to train with DO-Conv: layers in the network, or W and D' in the optimizer.

Everything that depends on the option `--door` is here, so that a script trains through both. A
network is plain before it is trained, and is the same network to rounding after it is folded.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from do_conv import frameworks
from do_conv.adapter import DELTA
from do_conv.core.composition import compose_spec, identity_part, kernel_change
from do_conv.core.spec import Spec
from do_conv.core.starts import identity

LAYERS, OPTIMIZER = "layers", "optimizer"
DOORS = (LAYERS, OPTIMIZER)


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add the option."""
    parser.add_argument(
        "--door", choices=DOORS, default=LAYERS, help="where W and D' of the do-conv arm are"
    )


def in_name(arm: str, door: str) -> list[str]:
    """The part of a run's name that says the door: nothing for layers, and for the plain arm."""
    return [door] if arm != "plain" and door != LAYERS else []


def of(settings: Mapping[str, Any]) -> str:
    """The door of a do-conv run; results that do not say it are older than the second door."""
    door: str = settings.get("door", LAYERS)
    return door


class Door:
    """How an arm of a run is trained.

    Args:
        arm: "plain" or "do-conv".
        door: "layers" or "optimizer", which the plain arm has not.
        options: those of `convert` that the optimizer has too, such as `where`.

    Attributes:
        name: the door; None for the plain arm.
    """

    def __init__(self, arm: str, door: str, **options: Any) -> None:
        self.name = None if arm == "plain" else door
        self._options = options

    def network(self, plain: Any) -> Any:
        """The network to train: the plain one, or the same with DO-Conv layers."""
        if self.name != LAYERS:
            return plain
        return frameworks.backend(plain).convert(plain, **self._options)

    def optimizer(self, optimizer: Any, network: Any) -> Any:
        """An optimizer of PyTorch over the network's parameters, or a `DOConvOptimizer` with it."""
        if self.name != OPTIMIZER:
            return optimizer
        return frameworks.backend(network).DOConvOptimizer(optimizer, network, **self._options)

    def trainer(self, network: Any, *optimizer: Any) -> Any:
        """A `Trainer` of Gluon, or a `DOConvTrainer`.

        Args:
            network: has run once.
            optimizer: its name and its options.
        """
        if self.name == OPTIMIZER:
            return frameworks.backend(network).DOConvTrainer(network, *optimizer, **self._options)
        from mxnet import gluon

        return gluon.Trainer(network.collect_params(), *optimizer)

    def kernel_changes(self, network: Any, optimizer: Any) -> dict[str, np.ndarray]:
        """The change that D made to each kernel (Figure 6), by the layer's name; in PyTorch."""
        return {
            name: kernel_change(weight, delta, groups)
            for name, weight, delta, groups in self._factors(network, optimizer)
        }

    def kernel_sizes(self, network: Any, optimizer: Any) -> dict[str, dict[str, float]]:
        """How large D and the change that it made are, by the layer's name; in PyTorch.

        `change` is the norm of W' - W by that of W. `smallest`, `median` and `largest` are those of
        the singular values of D, whose rows are its multipliers and whose columns are the kernel's
        positions, over all channels. They are 1 at the identity.
        """
        return {name: _sizes(*one) for name, *one in self._factors(network, optimizer)}

    def _factors(
        self, network: Any, optimizer: Any
    ) -> Iterator[tuple[str, np.ndarray, np.ndarray, int]]:
        """The name of each layer, its W and D' in float64, and its groups."""
        found = _in_layers(network) if self.name == LAYERS else _in_optimizer(optimizer)
        for name, weight, delta, groups in found:
            yield name, weight.astype("float64"), delta.astype("float64"), groups


def _sizes(weight: np.ndarray, delta: np.ndarray, groups: int) -> dict[str, float]:
    spec = Spec.of_shapes(weight.shape, delta.shape, groups)
    unchanged = identity_part(weight, spec)
    change = compose_spec(weight, delta, spec) - unchanged
    matrices = (delta + identity(spec)).reshape(*delta.shape[:2], -1)  # (C_in, D_mul, positions)
    values = np.linalg.svd(matrices, compute_uv=False)
    found = {
        "change": np.linalg.norm(change) / np.linalg.norm(unchanged),
        "smallest": values.min(), "median": np.median(values), "largest": values.max(),
    }  # fmt: skip
    return {name: float(value) for name, value in found.items()}


def _in_layers(network: Any) -> Iterator[tuple[str, np.ndarray, np.ndarray, int]]:
    """The name of each layer, its W and D', and its groups."""
    for layer in frameworks.adapter("torch").model_layers(network):
        if layer.description is not None and DELTA in layer.arrays:
            weight, delta = (layer.arrays[name].read() for name in ("weight", DELTA))
            yield layer.name, weight, delta, layer.description.groups


def _in_optimizer(optimizer: Any) -> Iterator[tuple[str, np.ndarray, np.ndarray, int]]:
    for name, kernel in optimizer.kernels.items():
        weight, delta = (part.detach().cpu().numpy() for _, part in kernel.parts)
        yield name, weight, delta, kernel.spec.groups
