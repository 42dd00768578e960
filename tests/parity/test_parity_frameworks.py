"""PyTorch and Gluon held to the core, by the table and the code of `do-conv parity`."""

import pytest

from do_conv.parity import backends, cases, comparison

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
