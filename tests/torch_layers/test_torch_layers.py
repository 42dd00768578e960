"""The PyTorch layers as a person meets them: arguments, parameters, compositions, repr."""

import copy
import inspect
import math
import pickle

import pytest
import torch
from torch import nn
from torch.func import functional_call

import do_conv
from do_conv.torch import (
    DOConv1d,
    DOConv2d,
    DOConv3d,
    DOConvTranspose1d,
    DOConvTranspose2d,
    DOConvTranspose3d,
)

CONVOLUTIONS = [(DOConv1d, nn.Conv1d), (DOConv2d, nn.Conv2d), (DOConv3d, nn.Conv3d)]
TRANSPOSED = [
    (DOConvTranspose1d, nn.ConvTranspose1d),
    (DOConvTranspose2d, nn.ConvTranspose2d),
    (DOConvTranspose3d, nn.ConvTranspose3d),
]
CLASSES = dict(enumerate(CONVOLUTIONS, 1))
SIZES = {1: (9,), 2: (9, 8), 3: (5, 6, 5)}
OURS = ("d_mul", "depthwise_init", "composition")

D_MULS = pytest.mark.parametrize("extra", [0, 2, "twice"], ids=["default", "more", "twice"])


def multiplier(kernel_size, rank, extra):
    """D_mul: `extra` slots above |K|, or twice |K|."""
    shape = (kernel_size,) * rank if isinstance(kernel_size, int) else kernel_size
    return 2 * math.prod(shape) if extra == "twice" else math.prod(shape) + extra


def batch(rank, dtype=torch.float64, channels=4):
    return torch.randn(2, channels, *SIZES[rank], dtype=dtype)


def trained(layer):
    """The layer with a D' as training leaves it: not zero anywhere."""
    nn.init.normal_(layer.depthwise_delta, std=0.3)
    return layer


@pytest.mark.parametrize(("ours", "plain"), CONVOLUTIONS + TRANSPOSED)
def test_signature_is_the_plain_one_and_three_keywords(ours, plain):
    expected = list(inspect.signature(plain).parameters.values())
    found = list(inspect.signature(ours).parameters.values())
    assert [(p.name, p.kind, p.default) for p in found[: len(expected)]] == [
        (p.name, p.kind, p.default) for p in expected
    ]
    added = found[len(expected) :]
    assert tuple(p.name for p in added) == OURS
    assert {p.kind for p in added} == {inspect.Parameter.KEYWORD_ONLY}
    assert tuple(p.default for p in added) == (None, "identity", "kernel")


@pytest.mark.parametrize(
    ("ours", "plain", "positions"),
    [
        *((*pair, (4, 6, 3, 2, 1, 2, 2, False, "circular")) for pair in CONVOLUTIONS),
        *((*pair, (4, 6, 3, 3, 1, 2, 2, False, 1, "zeros")) for pair in TRANSPOSED),
    ],
)
def test_arguments_by_position(ours, plain, positions):
    positions += ("cpu", torch.float64)
    layer = ours(*positions)
    assert isinstance(layer, plain)
    assert repr(layer) == "DO" + repr(plain(*positions))
    assert layer.weight.dtype == layer.depthwise_delta.dtype == torch.float64
    with pytest.raises(TypeError):
        ours(*positions, 9)


@pytest.mark.parametrize(
    ("arguments", "options", "shapes"),
    [
        ((3, 8, 3), {}, {"weight": (8, 3, 3, 3), "depthwise_delta": (3, 9, 3, 3)}),
        ((3, 8, 3), {"d_mul": 9}, {"weight": (8, 3, 3, 3), "depthwise_delta": (3, 9, 3, 3)}),
        ((3, 8, 3), {"d_mul": 11}, {"weight": (8, 3, 11), "depthwise_delta": (3, 11, 3, 3)}),
        (
            (4, 6, (2, 3)),
            {"groups": 2, "d_mul": 12},
            {"weight": (6, 2, 12), "depthwise_delta": (4, 12, 2, 3)},
        ),
        (
            (4, 8, 3),
            {"groups": 4},
            {"weight": (8, 1, 3, 3), "depthwise_delta": (4, 9, 3, 3)},
        ),
        ((3, 8, 1), {}, {"weight": (8, 3, 1, 1)}),
        ((3, 8, (1, 1)), {"d_mul": 7}, {"weight": (8, 3, 1, 1)}),
    ],
)
@pytest.mark.parametrize("bias", [True, False])
def test_parameters(arguments, options, shapes, bias):
    layer = DOConv2d(*arguments, bias=bias, **options)
    expected = {**shapes, **({"bias": (8 if arguments[1] == 8 else 6,)} if bias else {})}
    assert {name: tuple(p.shape) for name, p in layer.named_parameters()} == expected
    assert all(p.requires_grad for p in layer.parameters())
    assert set(layer.state_dict()) == set(expected)
    assert not list(layer.buffers())


@D_MULS
def test_composition_may_be_switched_at_any_time(windowed, extra):
    rank, window = windowed
    ours, _ = CLASSES[rank]
    d_mul = multiplier(window["kernel_size"], rank, extra)
    torch.manual_seed(3)
    layer = trained(ours(4, 8, **window, d_mul=d_mul, dtype=torch.float64))
    x = batch(rank)
    results = []
    for composition in ("kernel", "feature", "kernel"):
        layer.composition = composition
        layer.zero_grad()
        out = layer(x)
        out.square().sum().backward()
        results.append([out.detach(), *(p.grad.clone() for p in layer.parameters())])
    for first, second, third in zip(*results, strict=True):
        assert not torch.equal(first, torch.zeros_like(first))
        torch.testing.assert_close(second, first, rtol=1e-11, atol=1e-11)
        assert torch.equal(third, first)


@pytest.mark.parametrize("kernel_size", [3, 1])
def test_an_unknown_composition_set_later_is_refused_when_used(kernel_size):
    layer = DOConv2d(4, 6, kernel_size)
    layer.composition = "both"
    with pytest.raises(
        do_conv.DOConvError, match=r"unknown composition 'both'; choose from kernel, feature"
    ):
        layer(batch(2, torch.float32))


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({}, ""),
        ({"d_mul": 9, "depthwise_init": "identity", "composition": "kernel"}, ""),
        ({"d_mul": 11}, ", d_mul=11"),
        ({"depthwise_init": "he"}, ", depthwise_init='he'"),
        ({"composition": "feature"}, ", composition='feature'"),
        (
            {"d_mul": 18, "depthwise_init": "he", "composition": "feature"},
            ", d_mul=18, depthwise_init='he', composition='feature'",
        ),
    ],
)
def test_repr_adds_what_differs_from_the_defaults(options, shown):
    window = {"padding": (1, 0), "groups": 2, "bias": False, "padding_mode": "reflect"}
    plain = repr(nn.Conv2d(4, 6, 3, **window))
    assert repr(DOConv2d(4, 6, 3, **window, **options)) == f"DO{plain[:-1]}{shown})"


@pytest.mark.parametrize("composition", ["kernel", "feature"])
@pytest.mark.parametrize("d_mul", [None, 5, 8])
def test_gradients(d_mul, composition):
    torch.manual_seed(3)
    layer = DOConv2d(
        4, 4, 2, stride=2, padding=1, groups=2, d_mul=d_mul, composition=composition
    ).double()
    trained(layer)
    names, values = zip(*layer.named_parameters(), strict=True)
    x = torch.randn(2, 4, 3, 3, dtype=torch.float64, requires_grad=True)

    def output(x, *parameters):
        return functional_call(layer, dict(zip(names, parameters, strict=True)), x)

    assert torch.autograd.gradcheck(output, (x, *values))
    assert torch.autograd.gradgradcheck(output, (x, *values))


def test_double_precision_keeps_small_changes():
    layer = DOConv2d(1, 1, 3, bias=False, dtype=torch.float64)
    nn.init.ones_(layer.weight)
    nn.init.constant_(layer.depthwise_delta, 2.0**-40)
    # Every slot adds the same power of two to 1: the sum is exact in float64, lost in float32.
    assert torch.equal(layer.composed_weight() - 1, torch.full((1, 1, 3, 3), 9 * 2.0**-40).double())


@pytest.mark.parametrize("composition", ["kernel", "feature"])
def test_unbatched_input(windowed, composition):
    rank, window = windowed
    ours, _ = CLASSES[rank]
    torch.manual_seed(3)
    layer = trained(ours(4, 8, **window, composition=composition, dtype=torch.float64))
    x = batch(rank)
    torch.testing.assert_close(layer(x[1]), layer(x)[1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("d_mul", [None, 11])
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies(duplicate, d_mul):
    layer = trained(DOConv2d(4, 6, 3, d_mul=d_mul, composition="feature"))
    twin = duplicate(layer)
    x = batch(2, torch.float32)
    assert repr(twin) == repr(layer)
    assert torch.equal(twin(x), layer(x))
    nn.init.zeros_(twin.depthwise_delta)
    assert not torch.equal(twin(x), layer(x))


@pytest.mark.parametrize("d_mul", [None, 11])
def test_a_loop_over_every_conv_initialises_our_weight_too(d_mul):
    def initialised(conv, **options):
        torch.manual_seed(3)
        net = nn.Sequential(conv(4, 6, 3, **options), nn.ReLU(), conv(6, 4, 3, **options))
        torch.manual_seed(4)
        for module in net.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.orthogonal_(module.weight)
                nn.init.constant_(module.bias, 0.5)
        return net

    net, x = initialised(DOConv2d, d_mul=d_mul), batch(2, torch.float32)
    expected = initialised(nn.Conv2d)
    assert bool((net[2].bias == 0.5).all())
    if d_mul is None:
        assert torch.equal(net(x), expected(x))
    else:
        # The rows of W are orthonormal over its own slots.
        rows = net[2].weight.flatten(1)
        torch.testing.assert_close(rows @ rows.T, torch.eye(4))


@D_MULS
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_scaling_an_output_channel_of_w_scales_that_channel_of_the_kernel(groups, extra):
    layer = trained(DOConv2d(4, 8, 3, groups=groups, d_mul=multiplier(3, 2, extra)))
    # Powers of two, so that nothing is rounded.
    factors = 2.0 ** torch.arange(-4, 4)
    expected = layer.composed_weight() * factors.view(-1, 1, 1, 1)
    with torch.no_grad():
        layer.weight.mul_(factors.view(-1, *[1] * (layer.weight.dim() - 1)))
    assert torch.equal(layer.composed_weight(), expected)
