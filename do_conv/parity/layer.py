"""The quantities of a case: by the core, which every framework is held to, and by a framework."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from do_conv.adapter import DELTA, SEPARABLE, Adapter
from do_conv.core import convolution, features, transposed
from do_conv.core.composition import compose_spec, compose_spec_gradients
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
    """The input and parameters of a layer, channels first, and the gradient of its output.

    `delta` is D', or a separable pair's D; `cotangent` is the gradient of the output.
    """

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
    start = delta_start(case.layer_start, spec)
    std = 0.3 if case.start == "trained" else start.std
    delta = start.mean + std * rng.standard_normal(spec.delta_shape)
    in_channels, out_channels = case.channels
    return Arrays(
        x=rng.standard_normal((case.batch, in_channels, *case.size)),
        weight=rng.standard_normal(spec.weight_shape),
        delta=delta if spec.has_delta else None,
        bias=rng.standard_normal(out_channels) if case.bias else None,
        cotangent=rng.standard_normal((case.batch, out_channels, *case.output_size)),
    ).astype(dtype)


def core_results(case: Case, given: Arrays) -> Results:
    """Every quantity of a case by the core, in float64."""
    given = given.astype("float64")
    x, weight, delta, bias, cotangent = vars(given).values()
    spec, window = case.spec, case.window
    composed = weight if delta is None else compose_spec(weight, delta, spec)
    convolve, convolve_features, gradients, feature_gradients = operations(case)
    output = convolve(x, composed, window, spec.groups, bias)
    grad_x, grad_composed, grad_bias = gradients(cotangent, x, composed, window, spec.groups)
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
        results["grad W"], results["grad D'"] = compose_spec_gradients(
            grad_composed, weight, delta, spec
        )
        names = ("feature grad x", "feature grad W", "feature grad D'", "feature grad bias")
        by_features = feature_gradients(cotangent, x, weight, delta, spec, window)
        results |= dict(zip(names, by_features, strict=True))
        results["feature output"] = convolve_features(x, weight, delta, spec, window, bias)
    if case.kind == "separable":
        results.pop("folded kernel")  # it is deployed as a pair, by feature composition
    if bias is None:
        results.pop("grad bias")
        results.pop("feature grad bias", None)
    return results


def operations(case: Case) -> tuple[Any, Any, Any, Any]:
    """The convolution, its feature composition, and their gradients."""
    if case.kind != "transposed":
        return (
            convolution.convolve,
            features.convolve_features,
            convolution.convolve_gradients,
            features.feature_gradients,
        )
    more = {"output_padding": case.output_padding}
    return (
        partial(transposed.convolve_transposed, **more),
        partial(transposed.convolve_transposed_features, **more),
        transposed.transposed_gradients,
        transposed.transposed_feature_gradients,
    )


def framework_results(adapter: Adapter, case: Case, given: Arrays) -> Results:
    """Every quantity of a case by a framework, in the precision of the arrays."""
    dtype = given.x.dtype.name
    delta_name = SEPARABLE if case.kind == "separable" else DELTA
    names = {"x": "x", "weight": "W", delta_name: "D'", "bias": "bias"}
    values: dict[str, Any] = {"weight": given.weight, delta_name: given.delta, "bias": given.bias}
    results: Results = {}
    with adapter.precision(dtype):
        layer = adapter.layer(case, dtype)
        (own,) = adapter.model_layers(layer)
        for name, array in own.arrays.items():
            array.write(values[name])
        for layer.composition, prefix in (("kernel", ""), ("feature", "feature ")):
            if prefix and (given.delta is None or not adapter.offers_features(case)):
                continue
            output, gradients = adapter.differentiate(layer, given.x, given.cotangent)
            results[f"{prefix}output"] = output
            for name, gradient in gradients.items():
                results[f"{prefix}grad {names[name]}"] = gradient
        results["composed kernel"] = adapter.composed_kernel(layer)
        folded = layer.fold()
        results["folded output"] = adapter.run(folded, given.x)
        if case.kind != "separable":
            (plain,) = adapter.model_layers(folded)
            results["folded kernel"] = plain.arrays["weight"].read()
    return {name: array.astype("float64") for name, array in results.items()}
