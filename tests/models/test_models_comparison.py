"""How far apart what two models give is, and where that begins."""

import math
from dataclasses import dataclass

import numpy as np
import pytest

from do_conv import DOConvError
from do_conv.models.comparison import agreement, difference, first_apart, flattened, held


def floats(*values, dtype="float32"):
    return np.array(values, dtype)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (floats(4, -8), floats(4, -8), 0),
        (floats(4, -8), floats(5, -8), 1 / 8),
        (floats(1, 2), floats(1, -10), 12 / 2),
        (floats(0, 0), floats(0, 3), 3),
        (floats(1e-30), floats(2e-30), 1),
        (floats(1), floats(1 + 2**-40, dtype="float64"), 2**-40),
        (floats(60000, dtype="float16"), floats(-60000, dtype="float16"), 2),
        (np.array([0, 200], "uint8"), np.array([100, 0], "uint8"), 1),
        (np.array([True, False]), np.array([True, True]), 1),
        (np.array([3 + 4j]), np.array([3 - 4j]), 8 / 5),
        (np.zeros((0, 3)), np.zeros((0, 3)), 0),
        (np.zeros((0, 3)), np.zeros((0, 4)), math.inf),
        (floats(1, 2), floats(1), math.inf),
        (np.zeros((2, 3)), np.zeros((3, 2)), math.inf),
        (floats(math.nan), floats(math.nan), math.inf),
        (floats(1, math.nan), floats(1, 1), math.inf),
        (floats(1, 1), floats(math.nan, 1), math.inf),
        (floats(math.inf, 1), floats(2, 1), math.inf),
        (floats(1, 1), floats(math.inf, 1), math.inf),
    ],
)
def test_difference(before, after, expected):
    found = difference(before, after)
    assert found == pytest.approx(expected, rel=1e-7)
    assert type(found) is float


def test_the_arrays_of_nested_outputs_in_their_order():
    found = flattened({"b": (1, [2, "no array"]), "a": {"c": [(3,)]}, "d": None}, is_number)
    assert list(found) == [1, 2, 3]
    assert list(flattened(4, is_number)) == [4]
    assert list(flattened([Output(5, {6}), Output], is_number)) == [5, 6]


def test_what_holds_itself_is_read_once():
    inner = [1]
    value = {"one": inner, "other": inner}
    inner.append(value)
    assert list(flattened(value, is_number)) == [1, 1]


@dataclass
class Output:
    first: int
    second: set


def test_containers_that_all_hold_each_other_are_looked_into_once():
    containers = [{"own": number} for number in range(20)]
    for one in containers:
        one["all"] = containers
        one |= dict(enumerate(containers))
    assert sorted(held(containers, is_number, set())) == list(range(20))


def is_number(value):
    return isinstance(value, int)


def test_the_first_layer_of_both_that_is_apart():
    before = {"a": floats(1), "gone": floats(1), "b": floats(1), "c": floats(1)}
    after = {"c": floats(2), "b": floats(1.5), "a": floats(1.25), "new": floats(9)}
    assert first_apart(before, after, 0.25) == "b"
    assert first_apart(before, after, 0.5) == "c"
    assert first_apart(before, after, 1) is None


def inside():
    return {"stem": floats(1), "head": floats(1)}, {"stem": floats(1), "head": floats(math.nan)}


def not_asked():
    raise AssertionError


def test_agreement_is_the_largest_difference_and_may_be_the_tolerance():
    before, after = [floats(4), floats(8), floats(2)], [floats(4), floats(9), floats(2)]
    assert agreement(before, after, 0.125, not_asked) == 0.125
    assert agreement([floats()], [floats()], 0, not_asked) == 0
    with pytest.raises(
        DOConvError, match=r"of 1.2e-01, which begins in layer 'head'; look at layer 'head'"
    ):
        agreement(before, after, 0.1249, inside)


@pytest.mark.parametrize("after", [[], [floats(1), floats(1)], [floats(math.nan)]])
def test_exception_other_outputs(after):
    with pytest.raises(DOConvError, match=r"of other shapes, .* training mode; be calm"):
        agreement([floats(1)], after, 1e9, inside, "be calm")


def test_exception_no_layer_to_name():
    with pytest.raises(DOConvError, match=r"a difference of 1.0e\+00; compare"):
        agreement([floats(1)], [floats(2)], 0.5, lambda: ({}, {}))


def test_exception_outputs_without_arrays():
    with pytest.raises(DOConvError, match=r"must give arrays, .*; received two models"):
        agreement([], [], 0, not_asked)
