"""Every wrong argument and input: the rule, what came, and what to do."""

import re

import keras
import numpy as np
import pytest

from do_conv import DOConvError
from do_conv.tf import (
    DOConv1D,
    DOConv1DTranspose,
    DOConv2D,
    DOConv2DTranspose,
    DOConv3D,
    DOConv3DTranspose,
    DODepthwiseConv2D,
)

GOOD = {
    DOConv1D: {"filters": 4, "kernel_size": 3},
    DOConv2D: {"filters": 4, "kernel_size": 3},
    DOConv3D: {"filters": 4, "kernel_size": 3},
    DODepthwiseConv2D: {"kernel_size": 3},
    DOConv1DTranspose: {"filters": 4, "kernel_size": 3},
    DOConv2DTranspose: {"filters": 4, "kernel_size": 3},
    DOConv3DTranspose: {"filters": 4, "kernel_size": 3},
}
RANKS = {layer_class: int(layer_class.__name__.rsplit("D", 1)[0][-1]) for layer_class in GOOD}
POSITIVE = ("must be a positive integer", "1 or more")


def message(rule, received, remedy):
    """A pattern for the three parts of a message, in their order."""
    return f"{re.escape(rule)}.*; received .*{re.escape(received)}.*; .*{re.escape(remedy)}"


def refused(layer_class, arguments, rule, received, remedy):
    with pytest.raises(DOConvError, match=message(rule, received, remedy)):
        layer_class(**{**GOOD[layer_class], **arguments})


@pytest.mark.parametrize("value", [0, -1, 2.0, True, "2"])
@pytest.mark.parametrize(
    ("layer_class", "argument"),
    [
        (DOConv2D, "filters"),
        (DOConv2D, "groups"),
        (DODepthwiseConv2D, "depth_multiplier"),
        (DOConv2DTranspose, "filters"),
    ],
)
def test_counts(layer_class, argument, value):
    refused(layer_class, {argument: value}, POSITIVE[0], f"={value!r}", POSITIVE[1])


@pytest.mark.parametrize("value", [0, -2])
@pytest.mark.parametrize("argument", ["kernel_size", "strides", "dilation_rate"])
@pytest.mark.parametrize("layer_class", GOOD)
def test_sizes(layer_class, argument, value):
    rank = RANKS[layer_class]
    rule, remedy = f"{argument} {POSITIVE[0]}", POSITIVE[1]
    refused(layer_class, {argument: value}, rule, f"{argument}={value}", remedy)
    last_axis = (*[1] * (rank - 1), value)
    refused(layer_class, {argument: last_axis}, rule, f"{argument}={value}", remedy)


@pytest.mark.parametrize("argument", ["kernel_size", "strides", "dilation_rate"])
@pytest.mark.parametrize("layer_class", GOOD)
def test_sizes_that_are_no_integers(layer_class, argument):
    rank = RANKS[layer_class]
    for value in (1.5, True, "3", None):
        rule = f"{argument} must be an integer or {rank} of them, one per spatial axis"
        refused(layer_class, {argument: value}, rule, f"{argument}={value!r}", "give whole numbers")
    for value in (2.0, True):
        many = (*[1] * (rank - 1), value)
        rule = f"{argument} {POSITIVE[0]}"
        refused(layer_class, {argument: many}, rule, f"{argument}={value!r}", POSITIVE[1])
    for many in ((), (1,) * (rank + 1)):
        rule = f"{argument} of a {rank}-D layer has {rank} axes"
        refused(layer_class, {argument: many}, rule, f"with {len(many)}", f"one integer or {rank}")


@pytest.mark.parametrize("value", [9.0, True, "9"])
@pytest.mark.parametrize("kernel_size", [1, 3])
@pytest.mark.parametrize("layer_class", [DOConv2D, DODepthwiseConv2D])
def test_d_mul_that_is_no_integer(layer_class, kernel_size, value):
    remedy = f"leave it out for the default {kernel_size**2}"
    arguments = {"kernel_size": kernel_size, "d_mul": value}
    refused(layer_class, arguments, "d_mul must be an integer", f"d_mul={value!r}", remedy)


@pytest.mark.parametrize(
    ("layer_class", "area"),
    [(layer_class, 3**rank) for layer_class, rank in RANKS.items()],
)
def test_d_mul_below_the_number_of_kernel_positions(layer_class, area):
    rule = f"d_mul must be at least the number of kernel positions, {area} for kernel_size=(3,"
    for value in (area - 1, 1, 0, -3):
        refused(layer_class, {"d_mul": value}, rule, f"d_mul={value}", f"give {area} or more")


@pytest.mark.parametrize(
    ("layer_class", "argument", "value", "choices"),
    [
        (DOConv1D, "padding", "full", "valid, same, causal"),
        (DOConv2D, "padding", "causal", "valid, same"),
        (DOConv3D, "padding", 1, "valid, same"),
        (DODepthwiseConv2D, "padding", "causal", "valid, same"),
        (DODepthwiseConv2D, "padding", None, "valid, same"),
        (DOConv2D, "depthwise_init", "zeros", "identity, he"),
        (DODepthwiseConv2D, "depthwise_init", None, "identity, he"),
        (DOConv2D, "composition", "both", "kernel, feature"),
        (DODepthwiseConv2D, "composition", 1, "kernel, feature"),
        (DOConv1DTranspose, "padding", "causal", "valid, same"),
        (DOConv2DTranspose, "depthwise_init", "zeros", "identity, he"),
    ],
)
def test_words(layer_class, argument, value, choices):
    with pytest.raises(DOConvError) as error:
        layer_class(**{**GOOD[layer_class], argument: value})
    assert str(error.value) == f"unknown {argument} {value!r}; choose from {choices}."


@pytest.mark.parametrize("layer_class", GOOD)
def test_data_format(layer_class):
    with pytest.raises(DOConvError, match="unknown data_format 'nhwc'; choose from channels_last,"):
        layer_class(**{**GOOD[layer_class], "data_format": "NHWC"})


def test_feature_composition_of_a_transposed_layer():
    rule = "composition must be 'kernel'"
    refused(DOConv2DTranspose, {"composition": "feature"}, rule, "='feature'", "leave it out")


@pytest.mark.parametrize("value", [-1, 1.5, (1, 2, 3)])
def test_output_padding(value):
    with pytest.raises(DOConvError, match=r"output_padding .*; received .*; give"):
        DOConv2DTranspose(4, 3, 2, output_padding=value)


def test_output_padding_of_a_whole_stride():
    """Keras's own rule, in Keras's words."""
    with pytest.raises(ValueError, match="`output_padding` must be strictly less than `strides`"):
        DOConv2DTranspose(4, 3, 2, output_padding=2)


@pytest.mark.parametrize("layer_class", [*list(GOOD)[:3], *list(GOOD)[4:]])
def test_strides_with_dilation(layer_class):
    """Keras's own rule, in Keras's words."""
    with pytest.raises(ValueError, match=r"strides > 1.*not supported.*Received: strides=\(2"):
        layer_class(**GOOD[layer_class], strides=2, dilation_rate=2)


def test_groups_that_do_not_divide():
    remedy = "choose a divisor of both channel counts"
    rule, received = "groups must divide the output channels", "groups=3 for 4 output channels"
    refused(DOConv2D, {"groups": 3}, rule, received, remedy)
    layer = DOConv2D(6, 3, groups=3)
    rule, received = "groups must divide the input channels", "groups=3 for 4 input channels"
    for build in (layer.build, lambda shape: layer(np.zeros(shape, "float32"))):
        with pytest.raises(DOConvError, match=message(rule, received, remedy)):
            build((2, 9, 9, 4))


@pytest.mark.parametrize("layer_class", GOOD)
@pytest.mark.parametrize("is_built", [True, False])
@pytest.mark.parametrize("difference", [-1, 1])
def test_an_input_of_another_rank(layer_class, is_built, difference):
    layer = layer_class(**GOOD[layer_class])
    if is_built:
        layer.build((None, *[5] * layer.rank, 4))
    shape = (2, *[5] * (layer.rank + difference), 4)
    rule = f"a {layer.rank}-D layer takes an input of {layer.rank + 2} axes"
    with pytest.raises(DOConvError, match=message(rule, str(shape), "reshape the input or use")):
        layer(np.zeros(shape, "float32"))


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("layer_class", GOOD)
def test_an_input_of_other_channels(layer_class, data_format):
    layer = layer_class(**GOOD[layer_class], data_format=data_format)
    sizes, last = [5] * layer.rank, data_format == "channels_last"
    layer.build((None, *sizes, 4) if last else (None, 4, *sizes))
    shape = (2, *sizes, 8) if last else (2, 8, *sizes)
    axis = layer.rank + 1 if last else 1
    rule = f"the layer was made for 4 input channels, on axis {axis}"
    with pytest.raises(DOConvError, match=message(rule, str(shape), "make the layer for the")):
        layer(np.zeros(shape, "float32"))


@pytest.mark.parametrize("layer_class", GOOD)
def test_an_input_of_unknown_channels(layer_class):
    layer = layer_class(**GOOD[layer_class])
    rule, remedy = "the input's channels must be known", "give the channel axis of the input a size"
    pattern = message(rule, "an input with unknown channels", remedy)
    with pytest.raises(DOConvError, match=pattern):
        layer(keras.Input((*[5] * layer.rank, None)))


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool"])
@pytest.mark.parametrize("layer_class", GOOD)
def test_an_input_of_integers(layer_class, dtype):
    layer = layer_class(**GOOD[layer_class])
    rule = "an input must have the dtype the layer computes in, float32"
    pattern = message(rule, f"an input of dtype {dtype}", "cast the input or the layer")
    with pytest.raises(DOConvError, match=pattern):
        layer(np.ones((2, *[5] * layer.rank, 4), dtype))


@pytest.mark.parametrize("layer_class", GOOD)
def test_an_input_that_is_none(layer_class):
    layer = layer_class(**GOOD[layer_class])
    with pytest.raises(DOConvError, match=r"an input of type tensor; received .*NoneType"):
        layer(None)


@pytest.mark.parametrize("layer_class", GOOD)
def test_another_spelling_of_d_mul(layer_class):
    with pytest.raises(TypeError, match="keyword d_mul; received dmul; write d_mul"):
        layer_class(**GOOD[layer_class], dmul=9)


def test_a_stride_in_the_place_of_the_authors_multiplier():
    with pytest.warns(UserWarning, match="a stride of 9 for .*; if you mean D_mul, .* as d_mul=9"):
        DOConv2D(8, 3, 9)
