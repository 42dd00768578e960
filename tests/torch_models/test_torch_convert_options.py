"""Which layers of a PyTorch model are converted, and what is refused."""

import re

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, prune

from do_conv import DOConvError
from do_conv.torch import (
    DOConv2d,
    convert,
    fold,
    folded_state_dict,
    plan,
    verify,
)


class Squared(nn.Conv2d):
    """A forward pass that does not read `weight` by that name."""

    def forward(self, x):
        return functional.conv2d(x, self._parameters[self.key]) ** 2

    key = "weight"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: nn.Conv2d(3, 4, 1), "a 1 x 1 kernel has nothing to over-parameterize"),
        (lambda: nn.Conv2d(0, 4, 3), "it has no input or no output channels"),
        (lambda: nn.ConvTranspose2d(4, 0, 3), "it has no input or no output channels"),
        (lambda: DOConv2d(3, 4, 3), "it has a depthwise kernel already"),
        (lambda: parametrizations.weight_norm(nn.Conv2d(3, 4, 3)), "its weight is computed"),
        (lambda: prune.identity(nn.Conv2d(3, 4, 3), "weight"), "its weight is computed"),
        (lambda: Squared(3, 4, 3), "its own forward pass is not seen to read its weight"),
    ],
)
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_what_is_left_and_why(make, reason):
    layer = make()
    with pytest.raises(DOConvError, match=f"received 1 convolution, left because {reason}"):
        convert(layer)
    model = nn.Sequential(nn.Conv2d(3, 3, 3), layer)
    kind = type(layer)
    assert type(convert(model)[1]) is kind
    assert type(convert(model, inplace=True)[1]) is kind


class WithSpec(nn.Conv2d):
    """It has an attribute that DO-Conv layers have."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.spec = "its own"


class WithFuse(nn.Conv2d):
    """It has a method that DO-Conv layers have."""

    def fuse(self):
        return "its own"


@pytest.mark.parametrize("kind", [WithSpec, WithFuse])
def test_names_of_ours_that_a_class_has_itself_are_kept(kind):
    layer = kind(3, 8, 3)
    model = nn.Sequential(layer, nn.Conv2d(8, 8, 3))
    assert [row.name for row in plan(model).converted] == ["1"]
    assert plan(model).left[0].reason.startswith("it has attributes or methods of its own")
    folded = fold(convert(model))[0]
    assert type(folded) is kind
    assert folded.__dict__.get("spec") == layer.__dict__.get("spec")
    assert [row.name for row in plan(model, door="optimizer").converted] == ["0", "1"]


def test_sizes_that_belong_to_no_layer_leave_it(network):
    network[0].first.groups = 2
    row = plan(network).rows[0]
    assert (row.becomes, row.spec) == (None, None)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (
            nn.Linear(3, 4),
            {},
            "must have a convolution that can be .* received a model without convolutions;",
        ),
        (
            nn.Conv2d(3, 4, 3),
            {"where": lambda *_: False},
            "left because it was not chosen; look at",
        ),
        (nn.Conv2d(3, 4, 3), {"d_mul": 8}, "d_mul must be at least the number of .*, 9"),
        (nn.Conv2d(3, 4, 3), {"composition": "both"}, "unknown composition 'both'"),
        (nn.Conv2d(3, 4, 3), {"depthwise_init": "ones"}, "unknown depthwise_init 'ones'"),
    ],
)
def test_exception_nothing_changes(model, options, message):
    with pytest.raises(DOConvError, match=message):
        convert(model, inplace=True, **options)
    assert "depthwise_delta" not in model._parameters
    assert type(model) in (nn.Linear, nn.Conv2d)


def test_exception_converting_twice(network):
    match = r"has a depthwise kernel already \(\d+\), a 1 x 1 kernel has nothing to .* \(1\); look"
    with pytest.raises(DOConvError, match=match):
        convert(convert(network))


def test_what_was_left_may_be_converted_later(network, x):
    partly = convert(network, where=lambda name, _: name == "0.first")
    assert isinstance(partly[0].first, DOConv2d)
    assert type(partly[0].depthwise) is nn.Conv2d
    fully = convert(partly)
    assert isinstance(fully[0].depthwise, DOConv2d)
    assert torch.equal(fully(x), network(x))


@pytest.mark.parametrize("where", ["layer1", re.compile("^layer1")])
def test_where_is_a_regular_expression(where):
    model = nn.ModuleDict({"layer1": nn.Conv2d(3, 4, 3), "layer2": nn.Conv2d(4, 4, 3)})
    kinds = {name: type(layer) for name, layer in convert(model, where=where).items()}
    assert kinds == {"layer1": DOConv2d, "layer2": nn.Conv2d}
    assert [row.name for row in plan(model, where=where).converted] == ["layer1"]


@pytest.mark.parametrize(
    ("where", "match"),
    [
        ("layer(", "must be a regular expression; received .*unterminated subpattern.*; escape"),
        (3, "where must be a function of a layer's name .*; received a int; give for example"),
        (["layer1"], "where must be a function .*; received a list; give for example"),
    ],
)
def test_exception_where(where, match):
    for function in (convert, plan):
        with pytest.raises(DOConvError, match=match):
            function(nn.Conv2d(3, 4, 3), where=where)


def test_exception_no_model():
    state = nn.Conv2d(3, 4, 3).state_dict()
    match = "a model must be a torch.nn.Module; received a OrderedDict; give the model itself"
    model = nn.Conv2d(3, 4, 3)
    for function in (convert, plan, fold, folded_state_dict, lambda one: verify(model, one)):
        with pytest.raises(DOConvError, match=match):
            function(state)


@pytest.mark.parametrize("inplace", [True, False])
def test_where_may_ask_which_layer_it_is(inplace):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
    second = model[1]
    converted = convert(model, where=lambda name, layer: layer is second, inplace=inplace)
    assert [type(layer) for layer in converted] == [nn.Conv2d, DOConv2d]
