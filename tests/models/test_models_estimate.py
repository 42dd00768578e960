"""The form of the estimate of a training step's time."""

from do_conv.core.spec import Spec
from do_conv.models.plan import Plan, Row

LARGE = Spec(512, 512, (3, 3))


def row(spec=LARGE, positions=((4, 4),), becomes="DOConv2d", **options):
    return Row("", "Conv2d", becomes, None, 0, spec, positions, **options)


def ratio(*rows, parameters=10**6, batch=1):
    return Plan(rows, parameters, batch).step_ratio


def test_a_network_that_is_left_takes_as_long_as_before():
    assert ratio(row(becomes=None)) == 1


def test_without_an_input_there_is_none():
    assert ratio(row(positions=())) is None


def test_it_falls_with_the_batch_and_the_maps():
    assert ratio(row()) > ratio(row(), batch=32) > ratio(row(positions=((32, 32),)), batch=32) > 1


def test_kernel_composition_takes_no_longer_for_a_larger_batch():
    assert (
        row().added_seconds(1) == row().added_seconds(64) > row(Spec(8, 8, (3, 3))).added_seconds(1)
    )


def test_each_use_of_a_layer_composes():
    assert row(positions=((4, 4),) * 3).added_seconds(1) == 3 * row().added_seconds(1)


def test_it_is_that_of_the_layers_composition():
    assert ratio(row(composition="feature")) < ratio(row())
    assert ratio(row(composition="feature"), batch=512) > ratio(row(), batch=512)


def test_features_are_faster_for_few_positions():
    assert (row().faster(1), row().faster(512)) == ("feature", "kernel")
    assert row(becomes=None).faster(1) == "kernel"
    assert row(kernel_only=True).faster(1) == "kernel"
