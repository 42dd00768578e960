"""A backend of some 200 lines on NumPy alone goes through all that the adapter is for."""

import numpy as np
import pytest
from numpy_backend import adapter

from do_conv import checkpoints, frameworks
from do_conv.parity import cases, comparison
from do_conv.parity.layer import arrays, core_results


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    """The one line of a new framework."""
    backend = frameworks.Backend("NumPy", home="numpy_backend", package="numpy_backend")
    monkeypatch.setitem(frameworks.BACKENDS, "numpy", backend)


@pytest.mark.parametrize("dtype", comparison.TOLERANCES)
@pytest.mark.parametrize("case", cases.CASES.values(), ids=cases.CASES)
def test_layer(case, dtype):
    found = frameworks.adapter("numpy")
    results = list(comparison.compare_layer("numpy", found, case, dtype))
    assert len(results) >= 5
    assert [result for result in results if not result.holds] == []


@pytest.mark.parametrize("dtype", comparison.TOLERANCES)
def test_training(dtype):
    results = list(comparison.compare_training("numpy", frameworks.adapter("numpy"), dtype))
    assert len(results) == 6
    assert [result for result in results if not result.holds] == []


def test_a_backend_without_an_optimizer_says_so():
    results = list(comparison.compare_doors("numpy", frameworks.adapter("numpy"), "float64"))
    assert [result.quantity for result in results] == list(comparison.DOORS)
    assert {result.reason for result in results} == {"no network without layers"}


@pytest.mark.parametrize("name", ["plain", "group2-d-mul", "transposed-all", "separable-d-mul"])
def test_weights_go_to_pytorch_and_back(name, tmp_path):
    case, path = cases.CASES[name], tmp_path / "layer.safetensors"
    given = arrays(case, "float32")
    before, again = adapter.layer(case, "float32"), adapter.layer(case, "float32")
    stored = {"weight": given.weight, before.delta_name: given.delta, "bias": given.bias}
    before.arrays.update({name: array for name, array in stored.items() if array is not None})
    expected = core_results(case, given)["output"]
    torch = frameworks.adapter("torch")
    between = torch.layer(case, "float32")
    for source, target in ((before, between), (between, again)):
        checkpoints.save(source, path)
        checkpoints.load(target, path)
    for found in (torch.run(between, given.x), adapter.run(again, given.x)):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * abs(expected).max())
