"""The difference of a framework from the core, relative to the largest value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from do_conv.adapter import Adapter, Options
from do_conv.parity import doors, training
from do_conv.parity.cases import Case
from do_conv.parity.layer import arrays, core_results, framework_results

# The largest error allowed in one layer, and after the training run.
TOLERANCES = {"float64": (1e-12, 1e-9), "float32": (5e-6, 1e-4)}
TRAINING = "20 training steps"
# 20 steps of W and D' in the optimizer, against the same in layers, by each optimizer.
DOORS = {f"optimizer: {name}": options for name, options in doors.OPTIMIZERS.items()}


@dataclass(frozen=True)
class Result:
    """One quantity of one case in one framework; `error` is None where it is not offered."""

    framework: str
    dtype: str
    case: str
    quantity: str
    error: float | None
    tolerance: float
    reason: str | None = None

    @property
    def holds(self) -> bool:
        """True if the framework agrees, or does not offer the case."""
        return self.error is None or self.error <= self.tolerance


def agrees(results: Sequence[Result]) -> bool:
    """True if something was compared, and all of it agrees."""
    return any(r.error is not None for r in results) and all(r.holds for r in results)


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference over the largest expected value; infinite for another shape or NaN."""
    if found.shape != expected.shape:
        return np.inf
    difference, scale = np.abs(found - expected).max(), np.abs(expected).max()
    error = float(difference / scale if scale else difference)
    return np.inf if np.isnan(error) else error


def compare_layer(name: str, adapter: Adapter, case: Case, dtype: str) -> Iterator[Result]:
    """Every quantity of a case in a framework; one result with the reason if it is not offered."""
    tolerance = TOLERANCES[dtype][0]
    reason = adapter.not_offered(case)
    if reason is not None:
        yield Result(name, dtype, case.name, "offered", None, tolerance, reason)
        return
    given = arrays(case, dtype)
    found = framework_results(adapter, case, given)
    expected = core_results(case, given)
    for key, error in _errors(found, expected):
        if key.startswith("feature") and not adapter.offers_features(case):
            continue
        yield Result(name, dtype, case.name, key, error, tolerance)


def compare_training(name: str, adapter: Adapter, dtype: str) -> Iterator[Result]:
    """Every parameter after the training run."""
    run = training.make_run(dtype)
    found, expected = training.train_with(adapter, run), training.train(run)
    for key, error in _errors(found, expected):
        yield Result(name, dtype, key, TRAINING, error, TOLERANCES[dtype][1])


def compare_doors(
    name: str, adapter: Adapter, dtype: str, optimizers: Mapping[str, Options] = DOORS
) -> Iterator[Result]:
    """Every parameter and kernel after training in the optimizer, against that in layers."""
    run = training.make_run(dtype)
    for quantity, options in optimizers.items():
        tolerance = doors.tolerance(options, dtype)
        reason = adapter.no_optimizer(options)
        if reason is not None:
            yield Result(name, dtype, "all", quantity, None, tolerance, reason)
            continue
        found = doors.train_kernels(adapter, options, run)
        expected = doors.train_layers(adapter, options, run)
        for key, error in _errors(found, expected):
            yield Result(name, dtype, key, quantity, error, tolerance)


def _errors(
    found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]
) -> Iterator[tuple[str, float]]:
    """The error of each expected array; it is infinite where the array is missing."""
    for key, value in expected.items():
        yield key, relative_error(found[key], value) if key in found else np.inf
