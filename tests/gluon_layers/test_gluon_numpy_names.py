"""The names that MXNet reads from NumPy: set where they are gone, left alone where they are."""

import math
import warnings

import numpy as np
import pytest

from do_conv.gluon import numpy_names

FINANCIAL = ("mirr", "npv", "pmt", "ppmt", "pv", "rate")
ARRAY = np.array([[3.0, 1.0], [2.0, 5.0]])

VALUES = [
    ("bool", lambda found: found is bool),
    ("int", lambda found: found is int),
    ("float", lambda found: found is float),
    ("PZERO", lambda found: found == 0 and math.copysign(1, found) == 1),
    ("NZERO", lambda found: found == 0 and math.copysign(1, found) == -1),
    ("PINF", lambda found: found == math.inf),
    ("NINF", lambda found: found == -math.inf),
    ("Inf", lambda found: found == math.inf),
    ("NAN", math.isnan),
    ("NaN", math.isnan),
    ("alltrue", lambda found: not found([True, False]) and found([True, True])),
    ("sometrue", lambda found: found([True, False]) and not found([False, False])),
    ("product", lambda found: found([2, 3, 4]) == 24),
    ("round_", lambda found: (found(2.5), found(1.26, 1)) == (2.0, 1.3)),
    ("in1d", lambda found: found([1, 2], [2, 3]).tolist() == [False, True]),
    ("msort", lambda found: found(ARRAY).tolist() == [[2.0, 1.0], [3.0, 5.0]]),
    ("trapz", lambda found: found([1, 2, 3]) == 4),
]


@pytest.mark.parametrize(("name", "holds"), VALUES, ids=[name for name, _ in VALUES])
def test_a_name_that_is_gone_is_set(name, holds, monkeypatch):
    # NumPy 2 has the one and not the other; earlier ones have only the other.
    monkeypatch.setitem(np.__dict__, "trapezoid", np.__dict__.get("trapezoid", np.trapz))
    # Deleted from the dictionary: asking the module for a removed name can warn.
    monkeypatch.delitem(np.__dict__, name)
    numpy_names.restore()
    assert holds(np.__dict__[name])


@pytest.mark.parametrize("name", FINANCIAL)
def test_a_financial_name_raises_when_it_is_called(name, monkeypatch):
    monkeypatch.delitem(np.__dict__, name)
    numpy_names.restore()
    with pytest.raises(NotImplementedError, match=rf"numpy\.{name} .*numpy_financial"):
        np.__dict__[name](0.1, 2)


@pytest.mark.parametrize("name", [*(name for name, _ in VALUES), *FINANCIAL])
def test_a_name_that_is_there_is_left_alone(name, monkeypatch):
    present = object()
    monkeypatch.setitem(np.__dict__, name, present)
    numpy_names.restore()
    assert np.__dict__[name] is present


def test_nothing_else_in_numpy_changes(monkeypatch):
    names = {*(name for name, _ in VALUES), *FINANCIAL}
    before = {name: value for name, value in vars(np).items() if name not in names}
    for name in names:
        monkeypatch.delitem(np.__dict__, name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        numpy_names.restore()
    after = dict(vars(np))
    assert names <= set(after)
    assert {name: value for name, value in after.items() if name not in names} == before
