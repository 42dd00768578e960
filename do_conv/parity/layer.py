"""The arrays of a case, and what the core makes of them: what every framework is held to."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from do_conv.core.composition import compose, compose_gradients
from do_conv.core.convolution import convolve, convolve_gradients
from do_conv.core.features import convolve_features, feature_gradients
from do_conv.core.starts import delta_start
from do_conv.parity.cases import Case

Results = dict[str, np.ndarray]

QUANTITIES = (
    "output", "composed kernel", "grad x", "grad W", "grad D'", "grad bias",
    "feature output", "feature grad x", "feature grad W", "feature grad D'", "feature grad bias",
    "folded kernel", "folded output",
)  # fmt: skip


@dataclass(frozen=True)
class Arrays:
    """What a layer is given, channels first; `cotangent` is the gradient of its output."""

    x: np.ndarray
    weight: np.ndarray
    delta: np.ndarray | None
    bias: np.ndarray | None
    cotangent: np.ndarray

    def astype(self, dtype: str) -> Arrays:
        """The same arrays in another precision."""
        cast: dict[str, Any] = {
            name: None if array is None else array.astype(dtype)
            for name, array in vars(self).items()
        }
        return Arrays(**cast)


def arrays(case: Case, dtype: str) -> Arrays:
    """The arrays of a case, the same in every framework, rounded to `dtype`."""
    spec = case.spec
    rng = np.random.default_rng(zlib.crc32(case.name.encode()))
    start = delta_start("he" if case.start == "he" else "identity", spec)
    std = 0.3 if case.start == "trained" else start.std
    delta = start.mean + std * rng.standard_normal(spec.delta_shape)
    output = (case.batch, spec.out_channels, *case.window.output_size(case.size))
    return Arrays(
        x=rng.standard_normal((case.batch, spec.in_channels, *case.size)),
        weight=rng.standard_normal(spec.weight_shape),
        delta=delta if spec.has_delta else None,
        bias=rng.standard_normal(spec.out_channels) if case.bias else None,
        cotangent=rng.standard_normal(output),
    ).astype(dtype)


def core_results(case: Case, given: Arrays) -> Results:
    """Every quantity of a case by the core, in float64."""
    given = given.astype("float64")
    x, weight, delta, bias, cotangent = vars(given).values()
    window, groups = case.window, case.groups
    composed = compose(weight, delta, groups)
    output = convolve(x, composed, window, groups, bias)
    grad_x, grad_composed, grad_bias = convolve_gradients(cotangent, x, composed, window, groups)
    results = {
        "output": output,
        "composed kernel": composed,
        "grad x": grad_x,
        "grad W": grad_composed,
        "grad bias": grad_bias,
        "folded kernel": composed,
        "folded output": output,
    }
    if delta is not None:
        results["grad W"], results["grad D'"] = compose_gradients(
            grad_composed, weight, delta, groups
        )
        features = ("feature grad x", "feature grad W", "feature grad D'", "feature grad bias")
        gradients = feature_gradients(cotangent, x, weight, delta, window, groups)
        results |= dict(zip(features, gradients, strict=True))
        results["feature output"] = convolve_features(x, weight, delta, window, groups, bias)
    if bias is None:
        results.pop("grad bias")
        results.pop("feature grad bias", None)
    return results
