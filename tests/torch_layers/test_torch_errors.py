"""What the PyTorch layers refuse: each message has the rule, what came, and what to do."""

import re

import numpy as np
import pytest
import torch

from do_conv import DOConvError
from do_conv.torch import DOConv1d, DOConv2d, DOConv3d, DOConvTranspose2d, LazyDOConv2d


def message(rule, received, remedy):
    """A pattern for the three parts of a message, in their order."""
    return f"{re.escape(rule)}.*; received .*{re.escape(received)}.*; .*{re.escape(remedy)}"


TOO_FEW = "d_mul must be at least the number of kernel positions, 9 for kernel_size=(3, 3)"
NOT_POSITIVE = "{} must be a positive integer"

ARGUMENTS = [
    ({"d_mul": 8}, TOO_FEW, "d_mul=8", "give 9 or more, or leave it out"),
    ({"d_mul": 1}, TOO_FEW, "d_mul=1", "give 9 or more, or leave it out"),
    ({"d_mul": 0}, TOO_FEW, "d_mul=0", "give 9 or more, or leave it out"),
    ({"d_mul": -9}, TOO_FEW, "d_mul=-9", "give 9 or more, or leave it out"),
    ({"d_mul": 9.0}, "d_mul must be an integer", "d_mul=9.0", "leave it out"),
    ({"d_mul": "9"}, "d_mul must be an integer", "d_mul='9'", "leave it out"),
    ({"d_mul": True}, "d_mul must be an integer", "d_mul=True", "leave it out"),
    ({"d_mul": (9,)}, "d_mul must be an integer", "d_mul=(9,)", "leave it out"),
    ({"kernel_size": 1, "d_mul": 2.5}, "d_mul must be an integer", "d_mul=2.5", "leave it out"),
    *[
        ({name: value}, NOT_POSITIVE.format(name), f"{name}={value!r}", "1 or more")
        for name in ("in_channels", "out_channels", "groups")
        for value in (0, -1, 2.0, True, "4", None)
    ],
    *[
        ({name: value}, NOT_POSITIVE.format(name), f"{name}={value}", "1 or more")
        for name in ("kernel_size", "stride", "dilation")
        for value in (0, -1)
    ],
    *[
        ({name: (3, value)}, NOT_POSITIVE.format(name), f"{name}={value}", "1 or more")
        for name in ("kernel_size", "stride", "dilation")
        for value in (0, 1.5, True)
    ],
    *[
        (
            {name: value},
            f"{name} must be an integer or 2 of them",
            f"{name}={value!r}",
            "give whole numbers",
        )
        for name in ("kernel_size", "stride", "dilation", "padding")
        for value in (1.5, True, None)
    ],
    ({"padding": -1}, "padding must be an integer of at least 0", "padding=-1", "0 or more"),
    ({"padding": (0, -1)}, "padding must be an integer of at least 0", "padding=-1", "0 or more"),
    *[
        (
            {name: value},
            f"{name} of a 2-D layer has 2 axes",
            f"{name}={value} with {len(value)}",
            "give one integer or 2",
        )
        for name in ("kernel_size", "stride", "dilation", "padding")
        for value in ((3,), (3, 3, 3), ())
    ],
    (
        {"groups": 3},
        "groups must divide the input channels",
        "groups=3 for 4 input channels",
        "choose a divisor",
    ),
    (
        {"out_channels": 7, "groups": 2},
        "groups must divide the output channels",
        "groups=2 for 7 output channels",
        "choose a divisor",
    ),
    (
        {"padding": "same", "stride": (1, 2)},
        "padding='same' needs stride 1 in PyTorch",
        "stride=(1, 2)",
        "give the padding in integers",
    ),
]

WORDS = [
    ({"padding": "full"}, "unknown padding 'full'; choose from same, valid."),
    (
        {"padding_mode": "mirror"},
        "unknown padding_mode 'mirror'; choose from zeros, reflect, replicate, circular.",
    ),
    ({"depthwise_init": "xavier"}, "unknown depthwise_init 'xavier'; choose from identity, he."),
    ({"composition": None}, "unknown composition None; choose from kernel, feature."),
    (
        {"kernel_size": 1, "composition": "both"},
        "unknown composition 'both'; choose from kernel, feature.",
    ),
]


@pytest.mark.parametrize(("changed", "rule", "received", "remedy"), ARGUMENTS)
def test_bad_arguments(changed, rule, received, remedy):
    arguments = {"in_channels": 4, "out_channels": 6, "kernel_size": 3, **changed}
    with pytest.raises(DOConvError, match=message(rule, received, remedy)):
        DOConv2d(**arguments)


@pytest.mark.parametrize(("changed", "said"), WORDS)
def test_unknown_words(changed, said):
    with pytest.raises(DOConvError) as refused:
        DOConv2d(**{"in_channels": 4, "out_channels": 6, "kernel_size": 3, **changed})
    assert str(refused.value) == said


@pytest.mark.parametrize(("ours", "rank"), [(DOConv1d, 1), (DOConv2d, 2), (DOConv3d, 3)])
def test_the_number_of_axes_is_the_rank(ours, rank):
    assert ours(4, 6, (2,) * rank).kernel_size == (2,) * rank
    received = f"kernel_size={(2,) * (rank + 1)} with {rank + 1}"
    pattern = message(f"kernel_size of a {rank}-D layer has {rank} axes", received, f"or {rank}")
    with pytest.raises(DOConvError, match=pattern):
        ours(4, 6, (2,) * (rank + 1))


@pytest.mark.parametrize("composition", ["kernel", "feature"])
@pytest.mark.parametrize("kernel_size", [3, 1])
@pytest.mark.parametrize(
    ("shape", "dtype", "rule", "received", "remedy"),
    [
        ((8, 8), None, "takes an input of 3 or 4 axes", "shape (8, 8)", "reshape the input"),
        ((1, 2, 4, 8, 8), None, "takes an input of 3 or 4 axes", "(1, 2, 4, 8, 8)", "reshape"),
        ((2, 5, 8, 8), None, "made for 4 input channels, on axis 1", "(2, 5, 8, 8)", "reorder"),
        ((2, 8, 8, 4), None, "made for 4 input channels, on axis 1", "(2, 8, 8, 4)", "reorder"),
        ((5, 8, 8), None, "made for 4 input channels, on axis 0", "(5, 8, 8)", "reorder"),
        ((2, 4, 8, 8), "float64", "computes in, torch.float32", "dtype torch.float64", "cast"),
        ((2, 4, 8, 8), "bfloat16", "computes in, torch.float32", "dtype torch.bfloat16", "cast"),
        ((2, 4, 8, 8), "int64", "computes in, torch.float32", "dtype torch.int64", "cast"),
    ],
)
def test_bad_inputs(shape, dtype, rule, received, remedy, kernel_size, composition):
    layer = DOConv2d(4, 6, kernel_size, composition=composition)
    x = torch.zeros(shape, dtype=getattr(torch, dtype or "float32"))
    with pytest.raises(DOConvError, match=message(rule, received, remedy)):
        layer(x)


@pytest.mark.parametrize("given", [None, np.zeros((2, 4, 7, 6), "float32"), [1.0]])
def test_an_input_that_is_no_tensor(kind, given):
    said = message("a layer takes an input of type torch.Tensor", type(given).__name__, "make a")
    for layer in (kind(), LazyDOConv2d(6, 3)):
        with pytest.raises(DOConvError, match=said):
            layer(given)


@pytest.mark.parametrize("name", ["D_mul", "dmul", "Dmul"])
@pytest.mark.parametrize("layer_class", [DOConv2d, LazyDOConv2d, DOConvTranspose2d])
def test_the_authors_name_of_the_multiplier(layer_class, name):
    channels = (8,) if layer_class is LazyDOConv2d else (8, 8)
    with pytest.raises(TypeError, match=f"keyword d_mul; received {name}; write d_mul"):
        layer_class(*channels, 3, **{name: 9})


@pytest.mark.parametrize(("kernel_size", "stride"), [(3, 9), (3, 18), ((1, 5), 6), (2, 4)])
def test_a_stride_in_the_place_of_the_authors_multiplier(kernel_size, stride):
    said = f"a stride of {stride} for .*; if you mean D_mul, .* give it as d_mul={stride}"
    with pytest.warns(UserWarning, match=said):
        DOConv2d(8, 8, kernel_size, stride, 1, 1)


@pytest.mark.parametrize(("kernel_size", "stride"), [(16, 16), (3, 2), (2, 3), (1, 4), (3, (4, 9))])
def test_a_stride_that_is_meant_is_not_warned_of(kernel_size, stride):
    DOConv2d(8, 8, kernel_size, stride)
    DOConv1d(8, 8, 3, 9)


@pytest.mark.parametrize("name", ["weight", "depthwise_delta"])
@pytest.mark.parametrize(
    "change", [lambda data: data[:, :1], lambda data: data[:4], torch.Tensor.double]
)
def test_a_parameter_that_is_replaced_before_the_gradients(name, change):
    layer = DOConv2d(8, 8, 3)
    loss = layer(torch.randn(2, 8, 6, 6)).sum()
    parameter = getattr(layer, name)
    parameter.data = change(parameter.data)
    with pytest.raises((DOConvError, RuntimeError)):  # PyTorch's own where there are no C loops
        loss.backward()
