"""What becomes of convolutions, whatever framework they are of."""

import pickle
import re
from functools import partial

import pytest

from do_conv import DOConvError, Spec, choices
from do_conv.models import reasons
from do_conv.models.decisions import Convolution, Description, decisions, planned, to_convert


class Layer:
    """A framework's layer."""


class Ours:
    """What takes its place."""


def spec_of(d_mul, channels=4, kernel_size=(3, 3)):
    return Spec(channels, channels, kernel_size, d_mul=d_mul)


def convolution(name, reason=None, **options):
    known = {"spec_of": spec_of, "becomes": None if reason else Ours, **options}
    return Convolution(name, Layer(), reason, 10, **known)


def becomes(*layers, where=None, d_mul=None, composition="kernel", holders=()):
    model = Description(layers, 10 * len(layers), holders)
    rows = [row for _, row in decisions(model, where, d_mul, composition)]
    return {row.name: row.reason or row.becomes for row in rows}


def test_a_row_for_each_layer():
    one, left = convolution("one"), convolution("left", reasons.ONE_POSITION, spec_of=None)
    (first, row), (second, other) = decisions(Description([one, left], 20), None, None, "feature")
    assert (first, second) == (one.layer, left.layer)
    assert (row.name, row.kind, row.becomes, row.reason) == ("one", "Layer", "Ours", None)
    assert (row.parameters, row.spec, row.composition) == (10, spec_of(9), "feature")
    assert (other.becomes, other.reason, other.spec) == (None, reasons.ONE_POSITION, None)


def test_a_class_with_kernel_composition_only():
    model = Description([convolution("one", kernel_only=True)], 10)
    ((_, row),) = decisions(model, None, None, "feature")
    assert (row.composition, row.kernel_only) == ("kernel", True)


@pytest.mark.parametrize(("d_mul", "expected"), [(None, 9), (12, 12), (lambda s: s.area + 2, 11)])
def test_the_multiplier_of_each_layer(d_mul, expected):
    left = convolution("left", "some reason")
    (_, row), (_, other) = decisions(
        Description([convolution("one"), left], 20), None, d_mul, "kernel"
    )
    assert row.spec == spec_of(expected)
    assert other.spec == spec_of(9)


def test_a_multiplier_of_a_layer_that_is_not_chosen_is_not_asked_for():
    assert becomes(convolution("one"), where=lambda *_: False, d_mul=3) == {
        "one": "it was not chosen"
    }
    with pytest.raises(DOConvError, match="d_mul must be at least"):
        becomes(convolution("one"), d_mul=3)


@pytest.mark.parametrize(
    ("make", "pattern", "match"),
    [
        (choices.named, "layer(", "must be a regular expression; received 'layer\\('"),
        (choices.named, b"layer", "must be a regular expression; received b'layer'"),
        (choices.named, 3, "must be a regular expression; received 3"),
        (lambda pattern: choices.stages([1], pattern), "layer(", "must be a regular expression"),
        (lambda pattern: choices.stages([1], pattern), "layer", "must have a group .*; write"),
    ],
)
def test_exception_a_pattern_of_names(make, pattern, match):
    with pytest.raises(DOConvError, match=match):
        make(pattern)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (choices.first(2) & "b|c", "b"),
        ("b|c" & choices.first(2), "b"),
        (choices.first(1) | re.compile("c"), "ac"),
        ("c" | choices.first(1), "ac"),
        (~("c" | choices.first(1)), "b"),
        (choices.stages({0}, r"a(\d)?"), "abc"),  # the group is optional
        (choices.kernel_at_least(3) & ~choices.depthwise(), "abc"),
    ],
)
def test_choices_are_combined_with_names(where, expected):
    where = pickle.loads(pickle.dumps(where))  # as it goes to other processes
    found = becomes(*map(convolution, "abc"), where=where)
    assert "".join(name for name, what in found.items() if what == "Ours") == expected


def test_exception_a_stage_that_is_no_number():
    where = choices.stages({1}, r"(layer|stage)(\d+)")
    with pytest.raises(DOConvError, match=r"must be a number .* received 'layer' in 'layer1.conv'"):
        becomes(convolution("layer1.conv"), where=where)


def test_exception_a_choice_with_something_else():
    with pytest.raises(DOConvError, match=r"must be combined with another one, or .* a function"):
        choices.first(1) & (lambda name, layer: True)
    with pytest.raises(DOConvError, match="must be a regular expression"):
        choices.first(1) | "layer("


def test_places_are_counted_with_what_is_left_and_what_is_hidden():
    layers = [
        convolution("a"),
        convolution("b", "some reason"),
        convolution("c", "hidden", count=2),
        convolution("d"),
    ]
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
    layer = convolution("a", spec_of=lambda d_mul: spec)
    assert (becomes(layer, where=choices.depthwise())["a"] == "Ours") == expected


def test_a_function_is_asked_for_the_name_and_the_layer():
    layers, asked = [convolution("a"), convolution("b", "some reason"), convolution("c")], []
    becomes(*layers, where=lambda *given: asked.append(given) or True)
    assert asked == [("a", layers[0].layer), ("c", layers[2].layer)]


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (convolution("b", weight="W"), "Ours"),
        (convolution("b", weight="V"), "Ours"),
        (convolution("b", reasons.ONE_POSITION, weight="W"), reasons.SHARED_WEIGHT),
        (convolution("b", weight="W", spec_of=partial(spec_of, channels=8)), reasons.SHARED_WEIGHT),
    ],
)
def test_a_weight_that_several_layers_read(other, expected):
    one = convolution("a", weight="W")
    holders = [(layer.layer, [layer.weight, "bias"]) for layer in (one, other)]
    assert becomes(one, other, holders=holders)["a"] == expected
    assert becomes(other, one, holders=holders)["a"] == expected


def test_a_weight_that_no_convolution_reads_too():
    one = convolution("a", weight="W")
    holders = [(one.layer, ["W"]), (Layer(), ["W"])]
    assert becomes(one, holders=holders) == {"a": reasons.SHARED_WEIGHT}
    assert becomes(one, holders=holders[:1]) == {"a": "Ours"}


def test_the_layers_to_convert_are_those_that_are_not_left():
    one, left = convolution("one"), convolution("left", reasons.ONE_POSITION)
    ((layer, row),) = to_convert(Description([left, one], 20), None, None, "kernel")
    assert (layer, row.name) == (one.layer, "one")


@pytest.mark.parametrize(
    ("left", "message"),
    [
        ([], "received a model without convolutions; give the model that holds"),
        ([reasons.ONE_POSITION], "received 1 convolution, left because a 1 x 1 kernel has nothing"),
        ([reasons.HAS_DEPTHWISE] * 2, "received 2 convolutions, each left .*; train it as it is"),
        (
            [reasons.ONE_POSITION, reasons.QUANTISED, reasons.ONE_POSITION],
            r"left for 2 reasons: a 1 x 1 kernel has .* \(2\), it is prepared .* \(1\); look",
        ),
        ([None], "left because it was not chosen; look at .* where"),
    ],
)
def test_exception_nothing_to_convert(left, message):
    layers = [convolution(str(place), reason) for place, reason in enumerate(left)]
    with pytest.raises(DOConvError, match=message):
        to_convert(Description(layers, 0), lambda *_: False, None, "kernel")


def test_a_plan_has_the_sizes_of_each_use():
    one, left = convolution("one"), convolution("left", reasons.ONE_POSITION)
    positions = {id(one.layer): [(8, 8), (4, 4)]}
    plan = planned(Description([one, left], 25), None, None, "kernel", positions, 2)
    assert [row.positions for row in plan] == [((8, 8), (4, 4)), ()]
    assert (plan.parameters, plan.batch) == (25, 2)


def test_a_plan_for_the_optimizer_adds_nothing_to_a_forward_pass():
    one, left = convolution("one"), convolution("left", reasons.ONE_POSITION)
    positions = {id(one.layer): [(8, 8)]}
    model = Description([one, left], 25)
    layers, optimizer = (
        planned(model, None, None, "kernel", positions, 2, door) for door in ("layers", "optimizer")
    )
    assert layers.macs[0] == optimizer.macs[0] == optimizer.macs[1] < layers.macs[1]
    assert optimizer.training_parameters == layers.training_parameters
    assert layers.step_ratio > 1
    assert optimizer.step_ratio is None
    first, *_, rest = str(optimizer).splitlines()
    assert "trained as" in first
    assert "Ours" not in str(optimizer)
    assert "a training step" not in rest


@pytest.mark.parametrize(
    ("composition", "door", "message"),
    [
        ("feature", "optimizer", "composition.*; leave it out"),
        ("kernel", "optimiser", "did you mean optimizer"),
    ],
)
def test_exception_a_plan_for_the_optimizer(composition, door, message):
    model = Description([convolution("one")], 25)
    with pytest.raises(DOConvError, match=message):
        planned(model, None, None, composition, {}, 1, door)
