"""The sizes of a layer: shapes, the rules about D_mul, and what every refusal says."""

import re

import numpy as np
import pytest

from do_conv import DOConvError, Spec
from do_conv.core import rules


def message(rule: str, received: str, remedy: str) -> str:
    """A pattern for the three parts of a message, in their order."""
    return f"{re.escape(rule)}.*; received .*{re.escape(received)}.*; .*{re.escape(remedy)}"


@pytest.mark.parametrize(
    ("spec", "weight", "delta", "composed"),
    [
        pytest.param(Spec(3, 8, (3, 3)), (8, 3, 3, 3), (3, 9, 3, 3), (8, 3, 3, 3), id="plain"),
        pytest.param(Spec(6, 4, (2, 3), 2), (4, 3, 2, 3), (6, 6, 2, 3), (4, 3, 2, 3), id="grouped"),
        pytest.param(Spec(4, 8, (3,), 4), (8, 1, 3), (4, 3, 3), (8, 1, 3), id="depthwise"),
        pytest.param(Spec(3, 8, (2, 2), 1, 8), (8, 3, 8), (3, 8, 2, 2), (8, 3, 2, 2), id="twice"),
        pytest.param(
            Spec(6, 9, (1, 2, 3), 3, 7), (9, 2, 7), (6, 7, 1, 2, 3), (9, 2, 1, 2, 3), id="more"
        ),
        pytest.param(
            Spec(None, 8, (3, 3), 2),
            (8, None, 3, 3),
            (None, 9, 3, 3),
            (8, None, 3, 3),
            id="unknown input",
        ),
    ],
)
def test_smoke_shapes(spec, weight, delta, composed):
    assert (spec.weight_shape, spec.delta_shape, spec.composed_shape) == (weight, delta, composed)


@pytest.mark.parametrize(
    ("spec", "rank", "area", "group_in", "group_out"),
    [
        (Spec(6, 4, (5,), 2), 1, 5, 3, 2),
        (Spec(4, 12, (2, 3), 4), 2, 6, 1, 3),
        (Spec(5, 7, (2, 3, 4)), 3, 24, 5, 7),
        (Spec(None, 12, (2, 2), 4), 2, 4, None, 3),
    ],
)
def test_derived_numbers(spec, rank, area, group_in, group_out):
    assert (spec.rank, spec.area) == (rank, area)
    assert (spec.group_channels, spec.group_rows) == (group_in, group_out)
    assert spec.has_delta


@pytest.mark.parametrize(
    ("d_mul", "expected", "blocks", "plain"),
    [
        (None, 6, 1, True),
        (6, 6, 1, True),
        (7, 7, 1, False),
        (11, 11, 1, False),
        (12, 12, 2, False),
        (13, 13, 2, False),
        (18, 18, 3, False),
    ],
)
def test_depth_multiplier(d_mul, expected, blocks, plain):
    spec = Spec(2, 2, (2, 3), 1, d_mul)
    assert (spec.d_mul, spec.whole_blocks, spec.has_plain_weight) == (expected, blocks, plain)


@pytest.mark.parametrize("d_mul", [None, 1, 5, np.int64(9)])
@pytest.mark.parametrize("kernel_size", [(1,), (1, 1), (1, 1, 1)])
def test_one_position_has_no_delta_whatever_d_mul_says(kernel_size, d_mul):
    spec = Spec(4, 6, kernel_size, 2, d_mul)
    assert not spec.has_delta
    assert spec.d_mul == 1
    assert spec.weight_shape == spec.composed_shape == (6, 2, *kernel_size)


def test_numpy_integers_become_plain_ones():
    two, three = np.int64(2), np.uint8(3)
    spec = Spec(np.int32(4), np.int16(6), (three, two), two, np.int64(7))
    assert spec == Spec(4, 6, (3, 2), 2, 7)
    numbers = (spec.in_channels, spec.out_channels, *spec.kernel_size, spec.groups, spec.d_mul)
    assert {type(number) for number in numbers} == {int}


@pytest.mark.parametrize("kernel_size", [[2, 3], np.array([2, 3])])
def test_any_sequence_is_a_kernel_size(kernel_size):
    assert Spec(1, 1, kernel_size).kernel_size == (2, 3)


@pytest.mark.parametrize(
    ("weight", "expected"),
    [((4, 3, 2, 2), Spec(6, 4, (2, 2), 2)), ((4, 3, 4), Spec(6, 4, (2, 2), 2, 4))],
)
def test_of_shapes_knows_both_shapes_of_the_default_weight(weight, expected):
    assert Spec.of_shapes(weight, (6, 4, 2, 2), 2) == expected


def test_of_shapes_with_more_slots():
    spec = Spec.of_shapes((4, 3, 7), (6, 7, 2, 3), 2)
    assert spec == Spec(6, 4, (2, 3), 2, 7)


@pytest.mark.parametrize("d_mul", [8, 1, 0, -9])
def test_exception_d_mul_below_the_kernel(d_mul):
    rule = "d_mul must be at least the number of kernel positions, 9 for kernel_size=(3, 3)"
    with pytest.raises(DOConvError, match=message(rule, f"d_mul={d_mul}", "give 9 or more")):
        Spec(3, 8, (3, 3), 1, d_mul)


@pytest.mark.parametrize("kernel_size", [(3, 3), (1, 1)])
@pytest.mark.parametrize("d_mul", [2.5, 9.0, True, "9", (9,), np.float64(9)])
def test_exception_d_mul_is_not_an_integer(kernel_size, d_mul):
    wanted = message("d_mul must be an integer", f"d_mul={d_mul!r}", "leave it out for the default")
    with pytest.raises(DOConvError, match=wanted):
        Spec(3, 8, kernel_size, 1, d_mul)


@pytest.mark.parametrize("value", [0, -3, 2.0, True, "4", np.float32(4)])
@pytest.mark.parametrize("name", ["in_channels", "out_channels", "groups"])
def test_exception_a_count_is_not_a_positive_integer(name, value):
    sizes = {"in_channels": 4, "out_channels": 4, "kernel_size": (3, 3), "groups": 1}
    wanted = message(f"{name} must be a positive integer", f"{name}={value!r}", "1 or more")
    with pytest.raises(DOConvError, match=wanted):
        Spec(**{**sizes, name: value})


def test_exception_only_channels_may_be_unknown():
    with pytest.raises(DOConvError, match=r"groups must be a positive integer; .*groups=None"):
        Spec(4, 4, (3, 3), None)


@pytest.mark.parametrize("value", [0, -1, 1.5, True, np.True_, "3"])
def test_exception_a_kernel_axis_is_not_a_positive_integer(value):
    wanted = message("kernel_size must be a positive integer", f"{value!r}", "1 or more")
    with pytest.raises(DOConvError, match=wanted):
        Spec(4, 4, (3, value))


@pytest.mark.parametrize("value", [(), (3, 3, 3, 3), 3, None])
def test_exception_a_kernel_has_one_to_three_axes(value):
    rule = rf"1 to 3 axes; received kernel_size={re.escape(repr(value))}; give a tuple"
    with pytest.raises(DOConvError, match=rule):
        Spec(4, 4, value)


@pytest.mark.parametrize(("value", "count"), [((3,), 1), ((3, 3, 3), 3), ([], 0)])
def test_exception_wrong_number_of_axes(value, count):
    wanted = message(
        "kernel_size of a 2-D layer has 2 axes", f"{value!r} with {count}", "give one integer or 2"
    )
    with pytest.raises(DOConvError, match=wanted):
        rules.axes("kernel_size", value, 2)


@pytest.mark.parametrize("value", ["33", 2.5, True, None])
def test_exception_axes_are_neither_an_integer_nor_several(value):
    wanted = message("kernel_size must be an integer or 2", f"{value!r}", "give whole numbers")
    with pytest.raises(DOConvError, match=wanted):
        rules.axes("kernel_size", value, 2)


@pytest.mark.parametrize(
    ("in_channels", "out_channels", "groups", "received"),
    [
        (4, 6, 3, "groups=3 for 4 input channels"),
        (6, 4, 3, "groups=3 for 4 output channels"),
        (None, 4, 3, "groups=3 for 4 output channels"),
        (2, 4, 4, "groups=4 for 2 input channels"),
    ],
)
def test_exception_groups_do_not_divide(in_channels, out_channels, groups, received):
    side = received.split()[-2]
    wanted = message(f"groups must divide the {side} channels", received, "choose a divisor")
    with pytest.raises(DOConvError, match=wanted):
        Spec(in_channels, out_channels, (3, 3), groups)


@pytest.mark.parametrize(
    ("weight", "delta", "groups", "rule"),
    [
        pytest.param((4, 3, 9), (3, 9), 1, "delta must have shape", id="delta without K"),
        pytest.param((4, 3, 3, 3), (3, 9, 9), 1, "delta must have shape", id="other ranks"),
        pytest.param((4, 3, 3, 3), (6, 9, 3, 3), 1, "groups times", id="groups left out"),
        pytest.param((4, 6, 3, 3), (6, 9, 3, 3), 2, "groups times", id="groups not in weight"),
        pytest.param((4, 3, 9), (3, 10, 3, 3), 1, "its D_mul the number", id="other D_mul"),
        pytest.param((4, 3, 3, 3), (9, 3, 3, 3), 1, "groups times", id="axes swapped"),
    ],
)
def test_exception_shapes_of_different_layers(weight, delta, groups, rule):
    wanted = f"{re.escape(rule)}.*received weight {re.escape(str(weight))}.*{re.escape(str(delta))}"
    with pytest.raises(DOConvError, match=wanted):
        Spec.of_shapes(weight, delta, groups)


def test_exception_shapes_with_too_few_slots():
    with pytest.raises(DOConvError, match=r"d_mul must be at least .* 9 for"):
        Spec.of_shapes((4, 3, 4), (3, 4, 3, 3))


@pytest.mark.parametrize(
    ("spec", "options", "shown"),
    [
        (Spec(4, 4, (3, 3)), ("identity", "kernel"), ""),
        (Spec(4, 4, (1, 1), 1, 9), ("identity", "kernel"), ""),
        (Spec(4, 4, (3, 3), 1, 12), ("identity", "kernel"), ", d_mul=12"),
        (
            Spec(4, 4, (3, 3), 1, 12),
            ("he", "feature"),
            ", d_mul=12, depthwise_init='he', composition='feature'",
        ),
    ],
)
def test_differences_are_the_options_that_are_not_the_default(spec, options, shown):
    assert spec.differences(*options) == shown
