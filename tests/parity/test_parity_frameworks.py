"""PyTorch and Gluon held to the core, by the table and the code of `do-conv parity`."""

import importlib

import pytest

from do_conv import frameworks
from do_conv.parity import cases, comparison
from do_conv.parity.layer import arrays, framework_results

FRAMEWORKS = ("torch", "gluon")


@pytest.mark.parametrize("dtype", comparison.TOLERANCES)
@pytest.mark.parametrize("case", cases.CASES.values(), ids=cases.CASES)
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_layer(framework, case, dtype):
    results = list(comparison.compare_layer(framework, frameworks.adapter(framework), case, dtype))
    if results[0].reason is not None:
        pytest.skip(f"{framework} does not offer it: {results[0].reason}")
    assert [result for result in results if not result.holds] == []


@pytest.mark.parametrize("dtype", comparison.TOLERANCES)
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_training(framework, dtype):
    results = comparison.compare_training(framework, frameworks.adapter(framework), dtype)
    assert [result for result in results if not result.holds] == []


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_at_least_forty_cases_are_offered(framework):
    backend = frameworks.adapter(framework)
    assert sum(backend.not_offered(case) is None for case in cases.CASES.values()) >= 40


@pytest.mark.parametrize("name", ["plain", "transposed"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_feature_composition_composes_no_kernel(framework, name, monkeypatch):
    """Both compositions give the same numbers: only the way tells them apart."""
    backend = frameworks.adapter(framework)
    composed = []
    base = importlib.import_module(f"do_conv.{framework}.base")
    compose = base.compose_spec
    monkeypatch.setattr(base, "compose_spec", lambda *a: composed.append(1) or compose(*a))
    case = cases.CASES[name]
    framework_results(backend, case, arrays(case, "float64"))
    # In kernel composition's forward pass, in `composed_weight` and in `fold`.
    assert len(composed) == 3


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_stride_belongs_to_the_depthwise_half(framework, monkeypatch):
    """On the pointwise half it would give the same numbers, at the cost of the whole image."""
    sizes = []
    layers = importlib.import_module(f"do_conv.{framework}.layers")
    if framework == "torch":
        convolve = layers.DOConv2d._convolve
        record = staticmethod(lambda x, *a, **k: sizes.append(x.shape[2:]) or convolve(x, *a, **k))
        monkeypatch.setattr(layers.DOConv2d, "_convolve", record)
    else:
        convolve = layers.DOConv2D._convolve
        record = lambda me, api, x, *a: sizes.append(x.shape[2:]) or convolve(me, api, x, *a)  # noqa: E731
        monkeypatch.setattr(layers.DOConv2D, "_convolve", record)
    case = cases.CASES["group2-stride"]
    framework_results(frameworks.adapter(framework), case, arrays(case, "float64"))
    # The depthwise half reads the image, the pointwise half what is left of it.
    assert [tuple(size) for size in sizes[-2:]] == [case.size, case.window.output_size(case.size)]
