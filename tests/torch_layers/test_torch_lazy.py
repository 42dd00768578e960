"""Lazy layers: the first input, or a checkpoint, tells the channels."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from do_conv import DOConvError
from do_conv import torch as do_torch

NAMES = [f"Conv{kind}{rank}d" for kind in ("", "Transpose") for rank in (1, 2, 3)]
CLASSES = [
    pytest.param(
        getattr(do_torch, f"LazyDO{name}"),
        getattr(do_torch, f"DO{name}"),
        getattr(nn, f"Lazy{name}"),
        int(name[-2]),
        id=name,
    )
    for name in NAMES
]


@pytest.mark.parametrize(("lazy", "becomes", "plain", "rank"), CLASSES)
def test_it_becomes_the_layer_that_starts_as_the_plain_one(lazy, becomes, plain, rank):
    x = torch.randn(2, 4, *[6] * rank)
    outputs = []
    for made in (lazy(6, 3, 2, groups=2), plain(6, 3, 2, groups=2)):
        torch.manual_seed(0)
        outputs.append(made(x))
        outputs.append(type(made))
    assert torch.equal(outputs[0], outputs[2])
    assert outputs[1] is becomes


@pytest.mark.parametrize(("lazy", "becomes", "plain", "rank"), CLASSES)
def test_no_parameter_is_there_before_the_first_input(lazy, becomes, plain, rank):
    layer, x = lazy(6, 3, depthwise_init="he"), torch.randn(2, 4, *[6] * rank)
    assert all(map(is_lazy, layer.parameters()))
    for name, parameter in layer.named_parameters():
        with pytest.raises(ValueError, match="uninitialized parameter"):
            nn.init.zeros_(parameter)
        assert name in {"weight", "bias", "depthwise_delta"}
    layer(x)
    assert not any(map(is_lazy, layer.parameters()))


def test_it_takes_our_options_and_has_no_hooks_left():
    layer = do_torch.LazyDOConv2d(6, 3, 1, 1, d_mul=12, depthwise_init="he", composition="feature")
    assert is_lazy(layer.weight)
    assert is_lazy(layer.depthwise_delta)
    layer(torch.randn(1, 4, 5, 5))
    assert layer.depthwise_delta.shape == (4, 12, 3, 3)
    assert layer.depthwise_delta.any()
    assert (layer.in_channels, layer.composition) == (4, "feature")
    assert not layer._forward_pre_hooks
    assert repr(layer).startswith("DOConv2d(4, 6, kernel_size=(3, 3)")
    assert torch.equal(pickle.loads(pickle.dumps(layer)).weight, layer.weight)


def test_nothing_is_drawn_before_the_first_input():
    state = torch.get_rng_state()
    do_torch.LazyDOConv2d(6, 3, d_mul=12, depthwise_init="he")
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("name", "options"), [("Conv2d", {"groups": 2}), ("ConvTranspose2d", {"groups": 2})]
)
@pytest.mark.parametrize("from_plain", [False, True])
def test_a_checkpoint_tells_the_channels(name, options, from_plain):
    home, prefix = (nn, "") if from_plain else (do_torch, "DO")
    stored = getattr(home, prefix + name)(4, 6, 3, **options)
    if not from_plain:
        nn.init.normal_(stored.depthwise_delta)
    layer = getattr(do_torch, f"LazyDO{name}")(6, 3, **options)
    layer.load_state_dict(stored.state_dict(), strict=True)
    assert layer.in_channels == 4
    x = torch.randn(1, 4, 5, 5)
    assert torch.equal(layer(x), stored(x))


def test_a_lazy_layer_is_saved_copied_and_loaded_before_it_has_seen_an_input():
    source = do_torch.LazyDOConv2d(6, 3)
    target = copy.deepcopy(source)
    target.load_state_dict(source.state_dict())
    assert is_lazy(target.weight)
    assert target(torch.randn(1, 4, 5, 5)).shape == (1, 6, 3, 3)


def test_in_a_network_with_other_lazy_layers():
    network = nn.Sequential(do_torch.LazyDOConv2d(6, 3), nn.LazyBatchNorm2d(), nn.LazyConv2d(3, 1))
    assert network(torch.randn(2, 4, 6, 6)).shape == (2, 3, 4, 4)
    assert [type(layer) for layer in network] == [do_torch.DOConv2d, nn.BatchNorm2d, nn.Conv2d]


@pytest.mark.parametrize("use", [lambda layer: layer.fold(), lambda layer: layer.composed_weight()])
def test_exception_before_an_input(use):
    with pytest.raises(DOConvError, match=r"layer 'LazyDOConv2d' without parameters; call it on"):
        use(do_torch.LazyDOConv2d(6, 3))


def test_the_first_input_may_be_one_sample():
    layer = do_torch.LazyDOConv2d(6, 3, padding=1, groups=2)
    assert layer(torch.zeros(2, 4, 6)).shape == (6, 4, 6)
    assert layer.in_channels == 2


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((6, 6), r"takes an input of 3 or 4 axes; received .*\(6, 6\); reshape"),
        ((1, 3, 6, 6), r"groups must divide the input channels; .* 3 input channels; choose"),
    ],
)
def test_exception_a_first_input_that_does_not_fit(shape, message):
    with pytest.raises(DOConvError, match=message):
        do_torch.LazyDOConv2d(6, 3, groups=2)(torch.zeros(shape))


@pytest.mark.parametrize(
    "make", [lambda: do_torch.LazyDOConv2d(8, 3), lambda: do_torch.convert(nn.LazyConv2d(8, 3))]
)
def test_a_checkpoint_ends_that_a_layer_is_lazy(make):
    plain, model = nn.Sequential(nn.Conv2d(3, 8, 3)), nn.Sequential(make())
    model.load_state_dict(plain.state_dict())
    assert type(model[0]) is do_torch.DOConv2d
    x = torch.randn(2, 3, 6, 6)
    for one in (do_torch.fold(model), model, do_torch.fold(model)):
        assert torch.equal(one(x), plain(x))


def test_exception_a_stored_weight_with_other_axes():
    layer = do_torch.LazyDOConv2d(8, 3)
    with pytest.raises(RuntimeError, match=r"size mismatch for weight: it has 1 axes .* and 4 in"):
        layer.load_state_dict({"weight": torch.zeros(8), "bias": torch.zeros(8)})


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ({"weight": torch.zeros(8, 4, 5, 5)}, r"weight.* \(8, 4, 3, 3\).* \(8, 4, 5, 5\)"),
        ({"weight": torch.zeros(6, 4, 3, 3)}, r"weight.* \(8, 4, 3, 3\).* \(6, 4, 3, 3\)"),
        (
            {"weight": torch.zeros(8, 4, 3, 3), "depthwise_delta": torch.zeros(8, 4, 3, 3)},
            r"depthwise_delta.* \(8, 9, 3, 3\).* \(8, 4, 3, 3\)",
        ),
    ],
)
def test_exception_a_checkpoint_of_other_sizes_leaves_a_lazy_layer(stored, message):
    layer = do_torch.LazyDOConv2d(8, 3, groups=2)
    with pytest.raises(RuntimeError, match=message):
        layer.load_state_dict({**stored, "bias": torch.zeros(8)})
    assert type(layer) is do_torch.LazyDOConv2d
    assert layer.has_uninitialized_params()
    assert layer(torch.zeros(1, 6, 5, 5)).shape == (1, 8, 3, 3)
    assert layer.in_channels == 6
