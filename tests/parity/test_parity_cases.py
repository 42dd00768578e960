"""The table itself: large enough, and offered widely enough, to mean something."""

import numpy as np
import pytest

from do_conv import DOConvError
from do_conv.parity import cases, comparison, training
from do_conv.parity.layer import QUANTITIES, arrays, core_results


def test_there_are_enough_cases_and_their_names_are_unique():
    assert len(cases.CASES) >= 60
    assert len(cases.CASES) == len(cases._TABLE)


@pytest.mark.parametrize(
    "present",
    [
        lambda case: case.rank == 1,
        lambda case: case.rank == 3,
        lambda case: case.kernel_size == (1, 5),
        lambda case: case.kernel_size == (2, 2),
        lambda case: case.kernel_size == (7, 7),
        lambda case: case.stride != 1 and case.dilation != 1,
        lambda case: case.groups == case.channels[0] and case.channels[1] > case.channels[0],
        lambda case: case.spec.d_mul % case.spec.area,
        lambda case: case.spec.whole_blocks > 1,
        lambda case: not case.bias,
        lambda case: case.start == "he",
        lambda case: case.start == "identity",
        *(
            lambda case, word=word: word in (case.padding, case.padding_mode)
            for word in ("same", "valid", "causal", "reflect", "replicate", "circular")
        ),
    ],
)
def test_the_table_covers(present):
    assert any(present(case) for case in cases.CASES.values())


def test_the_core_knows_every_quantity():
    case = cases.CASES["plain"]
    assert sorted(core_results(case, arrays(case, "float32"))) == sorted(QUANTITIES)


def test_arrays_are_the_same_each_time_and_differ_between_cases():
    first, again = (arrays(cases.CASES["plain"], "float64") for _ in range(2))
    other = arrays(cases.CASES["he"], "float64")
    np.testing.assert_array_equal(first.weight, again.weight)
    assert not np.array_equal(first.weight, other.weight)


@pytest.mark.parametrize(
    ("found", "expected", "error"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([1.0, 2.5], [1.0, 2.0], 0.25),
        ([0.5, 0.0], [0.0, 0.0], 0.5),
        ([1.0, np.nan], [1.0, 2.0], np.inf),
        ([1.0], [1.0, 2.0], np.inf),
    ],
)
def test_the_error_is_relative_to_the_largest_value(found, expected, error):
    assert comparison.relative_error(np.array(found), np.array(expected)) == error


class Wrong:
    """A framework whose composed kernel has its last two axes exchanged."""

    def not_offered(self, case):
        return None

    def offers_features(self, case):
        return True

    def layer_results(self, case, given):
        results = core_results(case, given)
        results["composed kernel"] = results["composed kernel"].swapaxes(-1, -2)
        del results["grad bias"]
        return results

    def train(self, run):
        trained = training.train(run)
        del trained["first.bias"]
        return {**trained, "second.weight": trained["second.weight"] + 1e-8}


def test_a_wrong_or_missing_quantity_does_not_hold():
    results = comparison.compare_layer("wrong", Wrong(), cases.CASES["plain"], "float64")
    assert {r.quantity for r in results if not r.holds} == {"composed kernel", "grad bias"}


def test_a_wrong_or_missing_parameter_after_training_does_not_hold():
    results = list(comparison.compare_training("wrong", Wrong(), "float64"))
    assert len(results) == 6
    assert {r.case for r in results if not r.holds} == {"first.bias", "second.weight"}


def test_exception_unknown_case():
    with pytest.raises(DOConvError, match=r"case must be one of .* 'plian'; choose .*plain"):
        cases.named(["plain", "plian"])


def test_every_parameter_of_the_training_run_moves_far_from_its_start():
    run = training.make_run("float64")
    trained = training.train(run)
    moved = {n: comparison.relative_error(trained[n], run.start[n]) for n in run.start}
    assert min(moved.values()) > 0.1
