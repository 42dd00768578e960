"""The fast ways to W D' are the formula, with gradients of every order."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from do_conv.core.spec import SeparableSpec, Spec
from do_conv.torch import DOConv2d, products
from do_conv.torch.products import FEWEST_ROWS as ROWS

SPECS = [
    pytest.param(Spec(8, ROWS, (3, 3)), 4, id="blocks-of-4"),
    pytest.param(Spec(9, ROWS, (3, 3)), 3, id="blocks-of-3"),
    pytest.param(Spec(16, 2 * ROWS, (3, 3), groups=2), 4, id="groups"),
    pytest.param(Spec(10, ROWS, (2, 3), d_mul=14), 2, id="more-slots"),
    pytest.param(Spec(8, ROWS, (3,)), 8, id="1d"),
    pytest.param(SeparableSpec(8, ROWS, (3, 3), d_mul=2), 4, id="separable"),
    pytest.param(Spec(8, ROWS, (5, 5)), 1, id="wide-matrices"),
    pytest.param(Spec(2, ROWS, (7, 7)), 1, id="wider-than-a-block"),
    pytest.param(Spec(8, ROWS - 1, (3, 3)), 1, id="few-rows"),
    pytest.param(Spec(7, ROWS, (3, 3)), 1, id="a-prime-number-of-channels"),
    pytest.param(Spec(6, 6, (3, 3), groups=6), 1, id="depthwise"),
]


def formula(weight, delta, spec):
    kernels = weight.reshape(spec.groups, spec.group_out_channels, -1, spec.d_mul)
    matrices = delta.reshape(spec.groups, -1, spec.d_mul, spec.area)
    return torch.einsum("gocs,gcsk->gock", kernels, matrices).reshape(spec.composed_shape)


def blocks(weight, delta, spec):
    change = products._by_blocks(weight, delta, spec, products.channels_together(spec))
    return change.reshape(spec.composed_shape)


def unrolled(weight, delta, spec):
    return products._unrolled(weight, delta, spec).reshape(spec.composed_shape)


def arrays(spec):
    torch.manual_seed(0)
    shapes = (spec.weight_shape, spec.delta_shape)
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize("way", [blocks, unrolled])
@pytest.mark.parametrize(("spec", "together"), SPECS)
def test_it_is_the_formula(way, spec, together):
    assert products.channels_together(spec) == together
    given = arrays(spec)
    expected, found = formula(*given, spec), way(*given, spec)
    torch.testing.assert_close(found, expected)
    grad = torch.randn_like(expected)
    for one, other in zip(
        torch.autograd.grad(found, given, grad),
        torch.autograd.grad(expected, given, grad),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("way", [blocks, unrolled])
def test_gradients_of_gradients(way, monkeypatch):
    monkeypatch.setattr(products, "FEWEST_ROWS", 1)
    spec = Spec(4, 4, (2,), groups=2)
    given = arrays(spec)
    assert gradcheck(lambda *a: way(*a, spec), given)
    assert gradgradcheck(lambda *a: way(*a, spec), given)


@pytest.mark.parametrize("way", [blocks, unrolled])
def test_many_at_once(way):
    spec = Spec(8, ROWS, (3, 3))
    weights, deltas = (torch.stack([one.detach(), -2 * one.detach()]) for one in arrays(spec))
    found = torch.vmap(lambda *a: way(*a, spec))(weights, deltas)
    expected = [formula(*a, spec) for a in zip(weights, deltas, strict=True)]
    torch.testing.assert_close(found, torch.stack(expected))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_blocks_leave_the_identity_start_to_the_last_bit(dtype):
    layer = DOConv2d(8, ROWS, 3, dtype=dtype)
    assert torch.equal(layer.composed_weight(), layer.weight)


def test_a_graph_for_elsewhere_has_one_product():
    layer = DOConv2d(8, ROWS, 3).eval()
    program = torch.export.export(layer, (torch.randn(1, 8, 4, 4),))
    called = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert sum("mm" in name for name in called) == 1
    assert not any("diag" in name for name in called)
