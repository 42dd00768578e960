"""Training in the optimizer held to training in layers, within each framework.

Both start from the same W and D', the layers with the framework's own optimizer, and the plain
network with the backend's. A step has two micro-batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from do_conv.adapter import SGD, Adam, Adapter, LayerArray, ModelLayer, Options
from do_conv.core.spec import Spec
from do_conv.parity.training import DECAY, LAYERS, MOMENTUM, RATE, Parameters, Run

_SGD = (RATE, MOMENTUM, DECAY)
_ADAM: dict[str, Any] = {"rate": 2.0**-7, "decay": DECAY, "epsilon": 2.0**-13, "micro_batches": 2}

OPTIMIZERS: dict[str, Options] = {
    "SGD": SGD(*_SGD, micro_batches=2),
    "Nesterov": SGD(*_SGD, is_nesterov=True, micro_batches=2),
    "Adam": Adam(**_ADAM),
    "AdamW": Adam(**_ADAM, is_decoupled=True),
}
# The largest difference allowed, of SGD and of Adam, which divides by small numbers.
TOLERANCES = {"float64": (1e-12, 1e-10), "float32": (1e-5, 1e-5)}


def tolerance(options: Options, dtype: str) -> float:
    """The largest difference allowed."""
    of_sgd, of_adam = TOLERANCES[dtype]
    return of_sgd if isinstance(options, SGD) else of_adam


def train_layers(adapter: Adapter, options: Options, run: Run) -> Parameters:
    """W, D' and the biases after the run, and each W' as "first.kernel", of layers."""
    dtype = run.inputs[0].dtype.name
    with adapter.precision(dtype):
        first, second = (adapter.layer(case, dtype) for case in LAYERS)
        network = adapter.network([first, "relu", second])
        arrays = _arrays(adapter.model_layers(network))
        _train(adapter, network, options, run, arrays, adapter.optimizer(network, options))
        kernels = {
            f"{case.name}.kernel": adapter.composed_kernel(layer)
            for case, layer in zip(LAYERS, (first, second), strict=True)
        }
        return {**_values(arrays), **kernels}


def train_kernels(adapter: Adapter, options: Options, run: Run) -> Parameters:
    """The same of a plain network and the optimizer of its kernels."""
    dtype = run.inputs[0].dtype.name
    with adapter.precision(dtype):
        first, second = (adapter.layer(case, dtype).fold() for case in LAYERS)
        network = adapter.network([first, "relu", second])
        optimizer = adapter.kernel_optimizer(network, options, _d_mul)
        arrays = _arrays(adapter.model_layers(optimizer))
        _train(adapter, network, options, run, arrays, optimizer)
        kernels = {
            f"{case.name}.kernel": layer.arrays["weight"].read()
            for case, layer in zip(LAYERS, adapter.model_layers(network), strict=True)
        }
        return {**_values(arrays), **kernels}


def _d_mul(spec: Spec) -> int:
    """The D_mul that the layer of a spec has in the run."""
    (case,) = (case for case in LAYERS if case.groups == spec.groups)
    return case.spec.d_mul


def _arrays(layers: Iterable[ModelLayer]) -> dict[str, LayerArray]:
    return {
        f"{case.name}.{name}": array
        for case, layer in zip(LAYERS, layers, strict=True)
        for name, array in layer.arrays.items()
    }


def _train(
    adapter: Adapter,
    network: object,
    options: Options,
    run: Run,
    arrays: Mapping[str, LayerArray],
    optimizer: object,
) -> None:
    for name, array in arrays.items():
        array.write(run.start[name])
    step = adapter.trainer(network, "mean squared error", options, optimizer)
    for x, target in zip(run.inputs, run.targets, strict=True):
        for part in np.split(np.arange(len(x)), options.micro_batches):
            step(x[part], target[part])


def _values(arrays: Mapping[str, LayerArray]) -> Parameters:
    return {name: array.read().astype("float64") for name, array in arrays.items()}
