"""PyTorch and Gluon held to the core, by the table and the code of `do-conv parity`."""

import importlib

import pytest

from do_conv.parity import backends, cases, comparison
from do_conv.parity.layer import arrays

FRAMEWORKS = ("torch", "gluon")


@pytest.mark.parametrize("dtype", comparison.TOLERANCES)
@pytest.mark.parametrize("case", cases.CASES.values(), ids=cases.CASES)
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_layer(framework, case, dtype):
    results = list(comparison.compare_layer(framework, backends.load(framework), case, dtype))
    if results[0].reason is not None:
        pytest.skip(f"{framework} does not offer it: {results[0].reason}")
    assert [result for result in results if not result.holds] == []


@pytest.mark.parametrize("dtype", comparison.TOLERANCES)
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_training(framework, dtype):
    results = comparison.compare_training(framework, backends.load(framework), dtype)
    assert [result for result in results if not result.holds] == []


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_at_least_forty_cases_are_offered(framework):
    backend = backends.load(framework)
    assert sum(backend.not_offered(case) is None for case in cases.CASES.values()) >= 40


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_feature_composition_composes_no_kernel(framework, monkeypatch):
    """Both compositions give the same numbers: only the way tells them apart."""
    backend = backends.load(framework)
    composed = []
    layers = importlib.import_module(f"do_conv.{framework}.layers")
    compose = layers.compose_spec
    monkeypatch.setattr(layers, "compose_spec", lambda *a: composed.append(1) or compose(*a))
    case = cases.CASES["plain"]
    backend.layer_results(case, arrays(case, "float64"))
    # In kernel composition's forward pass, in `composed_weight` and in `fold`.
    assert len(composed) == 3
