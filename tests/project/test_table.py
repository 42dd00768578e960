"""Tables that fit a terminal, and counts that a person can read."""

import pytest

from do_conv import table
from do_conv.core.spec import Spec
from do_conv.models.plan import Plan, Row


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.00 k"),
        (36_864, "36.9 k"),
        (99_949, "99.9 k"),
        (99_950, "100 k"),  # rounding may bring another figure,
        (999_499, "999 k"),
        (999_500, "1.00 M"),  # or another unit
        (1_813_561_344, "1.81 G"),
        (5 * 10**12, "5.00 T"),
    ],
)
def test_three_figures(number, shown):
    assert table.rounded(number) == shown


def made(*names, kinds=("Conv2d", "DOConv2d"), macs=True):
    spec, positions = Spec(64, 64, (3, 3)), ((56, 56),) if macs else ()
    rows = [Row(name, kinds[0], kinds[1], None, 36_864, spec, positions) for name in names]
    left = Row("last", kinds[0], None, "it is prepared for quantisation", 64, spec, positions)
    return str(Plan((*rows, left), 10**9, batch=32))


NAMES = {
    "short": ["a.0", "a.1"],
    "long": ["a.0", "backbone.features.stages.3.blocks.17.branch.conv.depthwise"],
    "wider-than-the-table": ["a" * 99],
}
KINDS = {
    "common": ("Conv2d", "DOConv2d"),
    "long": ("DepthwiseConv2DTranspose", "DODepthwiseConv2DTranspose"),
    "longer": ("Conv2dStaticSamePadding" * 2, "DOConv2dStaticSamePadding" * 2),
}


@pytest.mark.parametrize("macs", [True, False])
@pytest.mark.parametrize("kinds", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_no_line_is_wider_than_a_terminal_and_nothing_is_cut(names, kinds, macs):
    said = made(*names, kinds=kinds, macs=macs)
    lines = said.splitlines()
    assert all(len(line) <= 80 or line == "a" * 99 for line in lines)
    for text in (*names, *kinds, "left (1)", "(1) left: it is prepared for quantisation"):
        assert text in said
    words = {word for line in lines for word in line.split()}
    assert {*names, *kinds} <= words  # apart from each other, and whole
    assert [line for line in lines if line != line.rstrip()] == []


def test_numbers_stand_below_each_other():
    header, _, *rows = made("a.0", "a.1").splitlines()
    ends = {len(row) for row in [header, *rows[:3]]}
    assert len(ends) == 1
    assert " ".join(rows[0].split()) == "a.0 Conv2d DOConv2d 36.9 k 42.0 k 3.70 G 3.70 G"


def test_a_name_that_is_too_long_stands_above_its_row():
    long = NAMES["long"][1]
    lines = made(*NAMES["long"]).splitlines()
    at = lines.index(long)
    assert lines[at + 1].split()[:2] == ["Conv2d", "DOConv2d"]
    assert lines[at - 1].split()[:3] == ["a.0", "Conv2d", "DOConv2d"]
