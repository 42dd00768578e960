"""Every way to W D' is one einsum, with gradients of every order."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from do_conv.core.spec import SeparableSpec, Spec
from do_conv.torch import DOConv2d, products
from do_conv.torch.products import blocks, formula, unrolled

WAYS = {"formula": formula.composed, "blocks": blocks.composed, "unrolled": unrolled.composed}
SPECS = [
    pytest.param(Spec(8, 4, (3, 3)), 2, id="blocks-of-2"),
    pytest.param(Spec(9, 4, (1, 5)), 3, id="blocks-of-3"),
    pytest.param(Spec(16, 8, (3, 3), groups=2), 2, id="groups"),
    pytest.param(Spec(10, 4, (3, 2), d_mul=16), 2, id="more-slots"),
    pytest.param(Spec(8, 4, (3,)), 4, id="1d"),
    pytest.param(SeparableSpec(8, 4, (3, 3), d_mul=2), 2, id="separable"),
    pytest.param(Spec(8, 4, (5, 5)), 1, id="wider-than-a-block"),
    pytest.param(Spec(7, 4, (3, 3)), 1, id="a-prime-number-of-channels"),
    pytest.param(Spec(6, 6, (3, 3), groups=6), 1, id="depthwise"),
]


def einsum(weight, delta, spec):
    kernels = weight.reshape(spec.groups, spec.group_out_channels, -1, spec.d_mul)
    matrices = delta.reshape(spec.groups, -1, spec.d_mul, spec.area)
    change = torch.einsum("gocs,gcsk->gock", kernels, matrices).reshape(spec.composed_shape)
    return weight + change if spec.d_mul == spec.area else change


def arrays(spec):
    torch.manual_seed(0)
    shapes = (spec.weight_shape, spec.delta_shape)
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


@pytest.fixture(params=WAYS)
def way(request):
    return WAYS[request.param]


@pytest.mark.parametrize(("spec", "together"), SPECS)
def test_it_is_the_einsum(way, spec, together):
    assert blocks.layout(spec).together == together
    given = arrays(spec)
    expected, found = einsum(*given, spec), way(*given, spec)
    torch.testing.assert_close(found, expected)
    grad = torch.randn_like(expected)
    for one, other in zip(
        torch.autograd.grad(found, given, grad),
        torch.autograd.grad(expected, given, grad),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("spec", [Spec(4, 4, (9,), groups=2), Spec(2, 2, (2,), d_mul=9)])
def test_gradients_of_every_order(way, spec):
    assert blocks.layout(spec).together == 2
    given = arrays(spec)
    forward = way is not unrolled.composed  # a compiler's graph has no tangents
    assert gradcheck(
        lambda *a: way(*a, spec), given, check_batched_grad=True, check_forward_ad=forward
    )
    assert gradgradcheck(lambda *a: way(*a, spec), given)


@pytest.mark.parametrize("in_dims", [(0, 0), (0, None), (None, 0)])
def test_many_at_once(way, in_dims):
    spec = Spec(8, 4, (3, 3))
    pairs = [torch.stack([one.detach(), -2 * one.detach()]) for one in arrays(spec)]
    given = [one if dim == 0 else one[0] for one, dim in zip(pairs, in_dims, strict=True)]
    found = torch.vmap(lambda *a: way(*a, spec), in_dims)(*given)
    weights, deltas = (
        pair[[0, 0 if dim is None else 1]] for pair, dim in zip(pairs, in_dims, strict=True)
    )
    expected = [einsum(*a, spec) for a in zip(weights, deltas, strict=True)]
    torch.testing.assert_close(found, torch.stack(expected))


@pytest.mark.parametrize("frozen", [0, 1])
def test_what_is_frozen_has_no_gradient(way, frozen):
    spec = Spec(4, 4, (3, 3))
    given = arrays(spec)
    expected = torch.autograd.grad(einsum(*given, spec).sum(), given)[1 - frozen]
    given[frozen].requires_grad_(False)
    way(*given, spec).sum().backward()
    assert given[frozen].grad is None
    torch.testing.assert_close(given[1 - frozen].grad, expected)


@pytest.mark.parametrize("way", ["formula", "blocks"], indirect=True)  # a compiler chooses itself
def test_the_kernel_and_its_gradient_have_the_weights_memory_format(way):
    spec = Spec(8, 4, (3, 3))
    given = arrays(spec)
    expected = einsum(*given, spec)
    grads = torch.autograd.grad(expected.square().sum(), given)
    weight = given[0].detach().to(memory_format=torch.channels_last).requires_grad_()
    found = way(weight, given[1], spec)
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, expected)
    found.square().sum().backward()
    assert weight.grad.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close((weight.grad, given[1].grad), grads)


@pytest.mark.parametrize(
    ("spec", "chosen"),
    [
        pytest.param(Spec(96, 64, (3, 3)), blocks, id="large"),
        pytest.param(Spec(64, 64, (3, 3)), formula, id="small"),
        pytest.param(Spec(96, 64, (5, 5)), formula, id="large-kernel"),
        pytest.param(Spec(96, 96, (3, 3), groups=96), formula, id="depthwise"),
    ],
)
def test_blocks_are_for_large_layers_with_small_kernels(spec, chosen):
    assert products._way(*arrays(spec), spec) is chosen.composed


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_blocks_leave_the_identity_start_to_the_last_bit(dtype):
    layer = DOConv2d(96, 64, 3, dtype=dtype)
    assert torch.equal(layer.composed_weight(), layer.weight)


def test_a_graph_for_elsewhere_has_one_product():
    layer = DOConv2d(96, 64, 3).eval()
    program = torch.export.export(layer, (torch.randn(1, 96, 4, 4),))
    called = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert sum("matmul" in name for name in called) == 1
    assert not any("zeros" in name for name in called)
