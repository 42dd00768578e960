"""What becomes of convolutions, whatever framework they are of."""

from functools import partial

import pytest

from do_conv import DOConvError, Spec, choices
from do_conv.models import reasons
from do_conv.models.decisions import Found, decisions


class Layer:
    """A framework's layer."""


class Ours:
    """What takes its place."""


def spec_of(d_mul, channels=4, kernel_size=(3, 3)):
    return Spec(channels, channels, kernel_size, d_mul=d_mul)


def found(name, reason=None, **options):
    known = {"spec_of": spec_of, "becomes": None if reason else Ours, **options}
    return Found(name, Layer(), reason, 10, **known)


def becomes(*layers, where=None, d_mul=None, composition="kernel", holders=()):
    rows = [row for _, row in decisions(layers, where, d_mul, composition, holders)]
    return {row.name: row.reason or row.becomes for row in rows}


def test_a_row_for_each_layer():
    one, left = found("one"), found("left", reasons.ONE_POSITION, spec_of=None)
    (first, row), (second, other) = decisions([one, left], None, None, "feature")
    assert (first, second) == (one.layer, left.layer)
    assert (row.name, row.kind, row.becomes, row.reason) == ("one", "Layer", "Ours", None)
    assert (row.parameters, row.spec, row.composition) == (10, spec_of(9), "feature")
    assert (other.becomes, other.reason, other.spec) == (None, "its kernel has one position", None)


def test_a_class_with_kernel_composition_only():
    ((_, row),) = decisions([found("one", kernel_only=True)], None, None, "feature")
    assert (row.composition, row.kernel_only) == ("kernel", True)


@pytest.mark.parametrize(("d_mul", "expected"), [(None, 9), (12, 12), (lambda s: s.area + 2, 11)])
def test_the_multiplier_of_each_layer(d_mul, expected):
    left = found("left", "some reason")
    (_, row), (_, other) = decisions([found("one"), left], None, d_mul, "kernel")
    assert row.spec == spec_of(expected)
    assert other.spec == spec_of(9)


def test_a_multiplier_of_a_layer_that_is_not_chosen_is_not_asked_for():
    assert becomes(found("one"), where=lambda *_: False, d_mul=3) == {"one": "it was not chosen"}
    with pytest.raises(DOConvError, match="d_mul must be at least"):
        becomes(found("one"), d_mul=3)


def test_places_are_counted_with_what_is_left_and_what_is_hidden():
    layers = [found("a"), found("b", "some reason"), found("c", "hidden", count=2), found("d")]
    for count, expected in (
        (1, "it was not chosen"),
        (4, "it was not chosen"),
        (5, "Ours"),
    ):
        assert becomes(*layers, where=choices.first(count))["d"] == expected
        assert becomes(*layers, where=choices.first(count))["a"] == "Ours"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (Spec(4, 8, (3, 3), 4), True),
        (Spec(4, 8, (3, 3), 2), False),
        (Spec(1, 8, (3, 3)), False),  # grey images: one group because there is one channel
        (Spec(None, 8, (3, 3)), False),
    ],
)
def test_a_depthwise_layer_has_a_group_for_each_of_several_channels(spec, expected):
    layer = found("a", spec_of=lambda d_mul: spec)
    assert (becomes(layer, where=choices.depthwise())["a"] == "Ours") == expected


def test_a_function_is_asked_for_the_name_and_the_layer():
    layers, asked = [found("a"), found("b", "some reason"), found("c")], []
    becomes(*layers, where=lambda *given: asked.append(given) or True)
    assert asked == [("a", layers[0].layer), ("c", layers[2].layer)]


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (found("b", weight="W"), "Ours"),
        (found("b", weight="V"), "Ours"),
        (found("b", reasons.ONE_POSITION, weight="W"), reasons.SHARED_WEIGHT),
        (found("b", weight="W", spec_of=partial(spec_of, channels=8)), reasons.SHARED_WEIGHT),
    ],
)
def test_a_weight_that_several_layers_read(other, expected):
    one = found("a", weight="W")
    holders = [(layer.layer, [layer.weight, "bias"]) for layer in (one, other)]
    assert becomes(one, other, holders=holders)["a"] == expected
    assert becomes(other, one, holders=holders)["a"] == expected


def test_a_weight_that_no_convolution_reads_too():
    one = found("a", weight="W")
    holders = [(one.layer, ["W"]), (Layer(), ["W"])]
    assert becomes(one, holders=holders) == {"a": reasons.SHARED_WEIGHT}
    assert becomes(one, holders=holders[:1]) == {"a": "Ours"}
