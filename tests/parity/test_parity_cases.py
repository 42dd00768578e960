"""The table itself: large enough, and offered widely enough, to mean something."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from numpy_backend import adapter

from do_conv import DOConvError, frameworks
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


@pytest.fixture
def wrong(monkeypatch):
    """NumPy's backend, with a composed kernel whose last two axes are exchanged, and no bias."""

    def differentiate(layer, x, cotangent):
        output, gradients = right.differentiate(layer, x, cotangent)
        return output, {name: one for name, one in gradients.items() if name != "bias"}

    def trainer(model, *options):
        step = right.trainer(model, *options)

        def shifted(x, target):
            step(x, target)
            model[-1].arrays["weight"] = model[-1].arrays["weight"] + 1e-8

        return shifted

    right = SimpleNamespace(**vars(adapter))
    for name, one in (("differentiate", differentiate), ("trainer", trainer)):
        monkeypatch.setattr(adapter, name, one)
    turned = lambda layer: right.composed_kernel(layer).swapaxes(-1, -2)  # noqa: E731
    monkeypatch.setattr(adapter, "composed_kernel", turned)
    return adapter


def test_a_wrong_or_missing_quantity_does_not_hold(wrong):
    results = comparison.compare_layer("wrong", wrong, cases.CASES["plain"], "float64")
    assert {r.quantity for r in results if not r.holds} == {
        "composed kernel", "grad bias", "feature grad bias",
    }  # fmt: skip


def test_a_wrong_parameter_after_training_does_not_hold(wrong):
    results = list(comparison.compare_training("wrong", wrong, "float64"))
    assert len(results) == 6
    assert "second.weight" in {r.case for r in results if not r.holds}


def test_an_optimizer_that_trains_otherwise_does_not_hold(monkeypatch):
    """A step that another one has written is more than rounding."""
    right = frameworks.adapter("torch")
    wrong = SimpleNamespace(**vars(right))
    wrong.kernel_optimizer = lambda model, options, d_mul: right.kernel_optimizer(
        model, replace(options, decay=options.decay * (1 + 1e-6)), d_mul
    )
    results = list(comparison.compare_doors("torch", wrong, "float64"))
    assert {r.quantity for r in results if not r.holds} == comparison.DOORS.keys()


def test_exception_unknown_case():
    with pytest.raises(DOConvError, match=r"unknown case 'plian'; did you mean .*plain"):
        cases.named(["plain", "plian"])


def test_every_parameter_of_the_training_run_moves_far_from_its_start():
    run = training.make_run("float64")
    trained = training.train(run)
    moved = {n: comparison.relative_error(trained[n], run.start[n]) for n in run.start}
    assert min(moved.values()) > 0.1
