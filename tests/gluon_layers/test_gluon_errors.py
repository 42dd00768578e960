"""What the Gluon layers refuse: each message has the rule, what came, and what to do."""

import re

import do_conv.gluon  # noqa: F401 - before mxnet, which reads names that this module restores

# isort: split
import mxnet as mx
import numpy as np
import pytest

from do_conv import DOConvError
from do_conv.gluon import DOConv1D, DOConv2D, DOConv3D


def message(rule, received, remedy):
    """A pattern for the three parts of a message, in their order."""
    return f"{re.escape(rule)}.*; received .*{re.escape(received)}.*; .*{re.escape(remedy)}"


TOO_FEW = "d_mul must be at least the number of kernel positions, 9 for kernel_size=(3, 3)"
NOT_POSITIVE = "{} must be a positive integer"
# MXNet's word for the output channels, and the core's.
CHANNELS = (("channels", "channels"), ("groups", "groups"))

ARGUMENTS = [
    *[
        ({"d_mul": value}, TOO_FEW, f"d_mul={value}", "give 9 or more, or leave it out")
        for value in (8, 1, 0, -9)
    ],
    *[
        ({"d_mul": value}, "d_mul must be an integer", f"d_mul={value!r}", "leave it out")
        for value in (9.0, "9", True, (9,))
    ],
    ({"kernel_size": 1, "d_mul": 2.5}, "d_mul must be an integer", "d_mul=2.5", "leave it out"),
    *[
        ({name: value}, NOT_POSITIVE.format(shown), f"{shown}={value!r}", "1 or more")
        for name, shown in CHANNELS
        for value in (0, -1, 2.0, True, "4", None)
    ],
    *[
        (
            {"in_channels": value},
            "in_channels must be an integer of at least 0",
            f"in_channels={value!r}",
            "0 or more",
        )
        for value in (-1, 4.0, True, None)
    ],
    *[
        ({name: value}, NOT_POSITIVE.format(name), f"{name}={value}", "1 or more")
        for name in ("kernel_size", "strides", "dilation")
        for value in (0, -1)
    ],
    *[
        ({name: (3, value)}, NOT_POSITIVE.format(name), f"{name}={value}", "1 or more")
        for name in ("kernel_size", "strides", "dilation")
        for value in (0, 1.5, True)
    ],
    *[
        (
            {name: value},
            f"{name} must be an integer or 2 of them",
            f"{name}={value!r}",
            "give whole numbers",
        )
        for name in ("kernel_size", "strides", "dilation", "padding")
        for value in (1.5, True, None, "same")
    ],
    *[
        ({"padding": value}, "padding must be an integer of at least 0", "padding=-1", "0 or more")
        for value in (-1, (0, -1))
    ],
    *[
        (
            {name: value},
            f"{name} of a 2-D layer has 2 axes",
            f"{name}={value} with {len(value)}",
            "give one integer or 2",
        )
        for name in ("kernel_size", "strides", "dilation", "padding")
        for value in ((3,), (3, 3, 3), ())
    ],
    (
        {"groups": 3},
        "groups must divide the input channels",
        "groups=3 for 4 input channels",
        "choose a divisor",
    ),
    (
        {"channels": 7, "groups": 2, "in_channels": 0},
        "groups must divide the output channels",
        "groups=2 for 7 output channels",
        "choose a divisor",
    ),
    ({"layout": "NHWC"}, "layout must be 'NCHW'", "layout='NHWC'", "leave it out"),
]

WORDS = [
    ({"depthwise_init": "xavier"}, "unknown depthwise_init 'xavier'; choose from identity, he."),
    (
        {"kernel_size": 1, "composition": None},
        "unknown composition None; choose from kernel, feature.",
    ),
]


@pytest.mark.parametrize(("changed", "rule", "received", "remedy"), ARGUMENTS)
def test_bad_arguments(changed, rule, received, remedy):
    arguments = {"channels": 6, "kernel_size": 3, "in_channels": 4, **changed}
    with pytest.raises(DOConvError, match=message(rule, received, remedy)):
        DOConv2D(**arguments)


@pytest.mark.parametrize(("changed", "said"), WORDS)
def test_unknown_words(changed, said):
    with pytest.raises(DOConvError) as refused:
        DOConv2D(**{"channels": 6, "kernel_size": 3, "in_channels": 4, **changed})
    assert str(refused.value) == said


@pytest.mark.parametrize(("ours", "rank"), [(DOConv1D, 1), (DOConv2D, 2), (DOConv3D, 3)])
def test_the_number_of_axes_is_the_rank(ours, rank):
    assert ours(6, (2,) * rank, in_channels=4).weight.shape == (6, 4, *(2,) * rank)
    received = f"kernel_size={(2,) * (rank + 1)} with {rank + 1}"
    pattern = message(f"kernel_size of a {rank}-D layer has {rank} axes", received, f"or {rank}")
    with pytest.raises(DOConvError, match=pattern):
        ours(6, (2,) * (rank + 1))


@pytest.mark.parametrize("composition", ["kernel", "feature"])
@pytest.mark.parametrize("kernel_size", [3, 1])
@pytest.mark.parametrize("hybridized", [False, True])
@pytest.mark.parametrize(
    ("shape", "dtype", "rule", "received", "remedy"),
    [
        ((4, 8, 8), None, "takes an input of 4 axes", "shape (4, 8, 8)", "reshape the input"),
        ((1, 2, 4, 8, 8), None, "takes an input of 4 axes", "(1, 2, 4, 8, 8)", "reshape"),
        ((2, 5, 8, 8), None, "made for 4 input channels, on axis 1", "(2, 5, 8, 8)", "reorder"),
        ((2, 8, 8, 4), None, "made for 4 input channels, on axis 1", "(2, 8, 8, 4)", "reorder"),
        ((2, 4, 8, 8), "float64", "the layer computes in, float32", "dtype float64", "cast"),
        ((2, 4, 8, 8), "int32", "the layer computes in, float32", "dtype int32", "cast"),
    ],
)
def test_bad_inputs(shape, dtype, rule, received, remedy, hybridized, kernel_size, composition):
    layer = DOConv2D(6, kernel_size, composition=composition)
    layer.initialize()
    if hybridized:
        layer.hybridize()
    # It takes its channels from the first input, and keeps them.
    layer(mx.nd.ones((2, 4, 8, 8)))
    with pytest.raises(DOConvError, match=message(rule, received, remedy)):
        layer(mx.nd.zeros(shape, dtype=dtype))


@pytest.mark.parametrize("kernel_size", [3, 1])
def test_an_unknown_composition_set_later_is_refused_when_used(kernel_size):
    layer = DOConv2D(6, kernel_size, in_channels=4)
    layer.initialize()
    layer.composition = "both"
    with pytest.raises(
        DOConvError, match=r"unknown composition 'both'; choose from kernel, feature"
    ):
        layer(mx.nd.ones((2, 4, 8, 8)))


@pytest.mark.parametrize("given", [None, np.zeros((2, 4, 7, 6), "float32")])
def test_an_input_that_is_no_array(kind, given):
    layer = kind()
    layer.initialize()
    with pytest.raises(DOConvError, match=r"an input of type NDArray; received .*; make a NDArray"):
        layer(given)


def test_another_spelling_of_d_mul():
    with pytest.raises(TypeError, match="keyword d_mul; received D_mul; write d_mul"):
        DOConv2D(8, 3, D_mul=9)


def test_a_stride_in_the_place_of_the_authors_multiplier():
    with pytest.warns(UserWarning, match="a stride of 9 for .*; if you mean D_mul, .* as d_mul=9"):
        DOConv2D(8, 3, 9)
