"""Keras held to the core on the backend of this process, by the code of `do-conv parity`."""

import decay
import pytest

from do_conv import frameworks
from do_conv.parity import cases, comparison, doors

KERAS = frameworks.adapter("keras")


@pytest.mark.parametrize("dtype", comparison.TOLERANCES)
@pytest.mark.parametrize("case", cases.CASES.values(), ids=cases.CASES)
def test_layer(case, dtype):
    results = list(comparison.compare_layer("keras", KERAS, case, dtype))
    if results[0].reason is not None:
        pytest.skip(f"Keras does not offer it: {results[0].reason}")
    assert [result for result in results if not result.holds] == []


@pytest.mark.parametrize("dtype", comparison.TOLERANCES)
def test_training(dtype):
    results = comparison.compare_training("keras", KERAS, dtype)
    assert [result for result in results if not result.holds] == []


@pytest.mark.parametrize("dtype", comparison.TOLERANCES)
def test_training_in_the_optimizer_is_training_in_layers(dtype):
    results = list(comparison.compare_doors("keras", KERAS, dtype))
    assert [result for result in results if not result.holds] == []
    assert len(results) == 8 * len(doors.OPTIMIZERS)


def test_weight_decay_pulls_the_kernel_to_w():
    """Section 4: what decays is D' = D - I, so D goes to the identity, and not to zero."""
    before, after = decay.distances(KERAS)
    assert before > 0.2
    assert after < 0.01


def test_at_least_forty_cases_are_offered():
    assert sum(KERAS.not_offered(case) is None for case in cases.CASES.values()) >= 40
