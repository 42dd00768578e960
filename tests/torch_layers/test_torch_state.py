"""Saving and loading a PyTorch layer: keys, plain checkpoints, and what a misfit says."""

import io
import re
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from do_conv.torch import DOConv1d, DOConv2d, DOConv3d, DOConvTranspose2d, LazyDOConv2d

PAIRS = [(DOConv1d, nn.Conv1d, 1), (DOConv2d, nn.Conv2d, 2), (DOConv3d, nn.Conv3d, 3)]


def trained(layer):
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    return layer


def parameters(module):
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


@pytest.mark.parametrize(
    ("kernel_size", "bias", "keys"),
    [
        (3, True, ["bias", "depthwise_delta", "weight"]),
        (3, False, ["depthwise_delta", "weight"]),
        (1, True, ["bias", "weight"]),
    ],
)
def test_keys(kernel_size, bias, keys):
    assert sorted(DOConv2d(4, 6, kernel_size, bias=bias).state_dict()) == keys


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize(
    "options", [{}, {"d_mul": 11}, {"d_mul": 18, "groups": 2}, {"bias": False}, {"groups": 4}]
)
def test_round_trip(options, assign):
    layer = trained(DOConv2d(4, 8, 3, **options))
    stream = io.BytesIO()
    torch.save(layer.state_dict(), stream)
    stream.seek(0)
    fresh = DOConv2d(4, 8, 3, **options)
    fresh.load_state_dict(torch.load(stream), strict=True, assign=assign)
    assert_same(parameters(fresh), parameters(layer))
    x = torch.randn(2, 4, 6, 6)
    assert torch.equal(fresh(x), layer(x))


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("ours", "plain", "rank"), PAIRS)
def test_a_plain_checkpoint_is_the_identity(ours, plain, rank, bias, assign):
    expected = plain(4, 8, 3, groups=2, bias=bias)
    layer = trained(ours(4, 8, 3, groups=2, bias=bias))
    layer.load_state_dict(expected.state_dict(), strict=True, assign=assign)
    assert not layer.depthwise_delta.any()
    assert layer.depthwise_delta.requires_grad
    x = torch.randn(2, 4, *(6,) * rank)
    assert torch.equal(layer(x), expected(x))


def test_a_plain_checkpoint_of_a_network():
    def net(conv):
        return nn.Sequential(conv(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(conv(4, 2, 1)))

    expected, found = net(nn.Conv2d).eval(), net(DOConv2d).eval()
    trained(found[0])
    found.load_state_dict(expected.state_dict(), strict=True)
    x = torch.randn(2, 3, 6, 6)
    assert torch.equal(found(x), expected(x))


MISFITS = [
    pytest.param(
        {"kernel_size": 3}, {"kernel_size": 5}, "weight", (8, 4, 5, 5), (8, 4, 3, 3), id="kernel"
    ),
    pytest.param(
        {"kernel_size": 3},
        {"kernel_size": 3, "groups": 2},
        "weight",
        (8, 2, 3, 3),
        (8, 4, 3, 3),
        id="groups",
    ),
    pytest.param(
        {"kernel_size": 3, "d_mul": 11},
        {"kernel_size": 3},
        "weight",
        (8, 4, 3, 3),
        (8, 4, 11),
        id="d_mul",
    ),
    pytest.param(
        {"kernel_size": 3},
        {"kernel_size": 3, "d_mul": 11},
        "weight",
        (8, 4, 11),
        (8, 4, 3, 3),
        id="d_mul back",
    ),
    # W fits here, so that only D' can tell.
    pytest.param(
        {"kernel_size": (3, 1), "d_mul": 7},
        {"kernel_size": (2, 3), "d_mul": 7},
        "depthwise_delta",
        (4, 7, 2, 3),
        (4, 7, 3, 1),
        id="only delta",
    ),
]


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(("saved", "made", "key", "expected", "found"), MISFITS)
def test_a_misfit_names_the_key_and_both_shapes(saved, made, key, expected, found, strict):
    stored = nn.Sequential(nn.ReLU(), trained(DOConv2d(4, 8, **saved))).state_dict()
    net = nn.Sequential(nn.ReLU(), trained(DOConv2d(4, 8, **made)))
    before = parameters(net)
    pattern = "'1.{}' must have shape {}; received shape {}; .*kernel_size, groups and d_mul"
    with pytest.raises(
        RuntimeError, match=pattern.format(key, re.escape(str(expected)), re.escape(str(found)))
    ):
        net.load_state_dict(stored, strict=strict)
    assert_same(parameters(net), before)


def test_a_plain_checkpoint_that_does_not_fit():
    layer = trained(DOConv2d(4, 8, 3, d_mul=11))
    before = parameters(layer)
    pattern = re.escape("'weight' must have shape (8, 4, 11); received shape (8, 4, 3, 3)")
    with pytest.raises(RuntimeError, match=pattern):
        layer.load_state_dict(nn.Conv2d(4, 8, 3).state_dict())
    assert_same(parameters(layer), before)


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("make", [DOConv2d, DOConvTranspose2d, LazyDOConv2d])
def test_exception_a_weight_of_more_slots_without_its_delta(make, strict):
    sizes = (8, 3) if make is LazyDOConv2d else (4, 8, 3)
    source, target = (nn.Sequential(make(*sizes, d_mul=11)) for _ in range(2))
    for net in (source, target):
        net(torch.randn(1, 4, 6, 6))
        trained(net[0])
    stored, before = source.state_dict(), parameters(target)
    del stored["0.depthwise_delta"]
    with pytest.raises(RuntimeError, match=r"'0.weight' alone: the checkpoint has no '0.depthwise"):
        target.load_state_dict(stored, strict=strict)
    assert_same(parameters(target), before)


@pytest.mark.parametrize("stored", [{}, {"bias": torch.ones(8)}], ids=["nothing", "bias"])
def test_a_checkpoint_without_a_weight_leaves_both_kernels(stored):
    layer = trained(DOConv2d(4, 8, 3))
    before = parameters(layer)
    layer.load_state_dict(stored, strict=False)
    assert_same(parameters(layer), {**before, **stored})
    with pytest.raises(RuntimeError, match="weight"):
        layer.load_state_dict(stored, strict=True)
    assert_same(parameters(layer), {**before, **stored})


def test_a_checkpoint_without_a_bias_misses_the_bias_alone():
    layer = DOConv2d(4, 8, 3)
    result = layer.load_state_dict(nn.Conv2d(4, 8, 3, bias=False).state_dict(), strict=False)
    assert result.missing_keys == ["bias"]
    assert result.unexpected_keys == []


def test_our_checkpoint_in_a_plain_layer_shows_the_delta():
    with pytest.raises(RuntimeError, match=r"Unexpected key.*depthwise_delta"):
        nn.Conv2d(4, 8, 3).load_state_dict(DOConv2d(4, 8, 3).state_dict())


@pytest.mark.filterwarnings("ignore:a weight that is pruned:UserWarning")
@pytest.mark.parametrize(
    "wrap",
    [parametrizations.weight_norm, lambda layer: prune.l1_unstructured(layer, "weight", 0.3)],
)
def test_a_layer_whose_weight_is_computed_loads_what_it_saved(wrap):
    source, target = (wrap(DOConv2d(3, 4, 3, depthwise_init="he")) for _ in range(2))
    target.load_state_dict(source.state_dict())
    x = torch.randn(1, 3, 6, 6)
    assert torch.equal(source(x), target(x))


def test_a_layer_without_memory_folds_to_one():
    folded = DOConv2d(3, 4, 3, device="meta").fold()
    assert type(folded) is nn.Conv2d
    assert folded.weight.is_meta


def test_tracing_asks_nothing_of_the_input():
    layer, x = DOConv2d(3, 4, 3, depthwise_init="he"), torch.randn(2, 3, 6, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("error", torch.jit.TracerWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        traced = torch.jit.trace(layer, x)
    torch.testing.assert_close(traced(x), layer(x))  # a trace composes by the formula
