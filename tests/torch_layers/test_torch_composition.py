"""Every way to W D' is one einsum, with gradients of every order."""

import shutil

import pytest
import torch
from hypothesis import given as drawn
from hypothesis import strategies as st
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.fx.experimental.proxy_tensor import make_fx

from do_conv import native
from do_conv.core.spec import SeparableSpec, Spec
from do_conv.torch import DOConv2d, compose
from do_conv.torch.composition import formula, loops, operators, unrolled

WAYS = {
    "formula": formula.composed,
    "loops": loops.composed,
    "loops-operators": operators.composed,
    "unrolled": unrolled.composed,
}
needs_loops = pytest.mark.skipif(not native.LIBRARIES, reason="installed without a C compiler")
SPECS = [
    pytest.param(Spec(8, 4, (3, 3)), id="3x3"),
    pytest.param(Spec(9, 7, (1, 5)), id="less-than-a-vector"),
    pytest.param(Spec(16, 8, (3, 3), groups=2), id="groups"),
    pytest.param(Spec(10, 4, (3, 2), d_mul=16), id="more-slots"),
    pytest.param(Spec(8, 4, (3,)), id="1d"),
    pytest.param(SeparableSpec(8, 4, (3, 3), d_mul=2), id="separable"),
    pytest.param(SeparableSpec(8, 4, (3, 3), d_mul=9), id="separable-as-wide-as-its-kernel"),
    pytest.param(Spec(8, 4, (5, 5)), id="5x5"),
    pytest.param(Spec(67, 6, (3, 3)), id="a-prime-number-of-channels"),
    pytest.param(Spec(6, 6, (3, 3), groups=6), id="depthwise"),
    pytest.param(Spec(128, 120, (3, 3)), id="for-several-threads"),
]


DTYPES = (torch.float32, torch.float64)


def einsum(weight, delta, spec):
    kernels = weight.reshape(spec.groups, spec.group_rows, -1, spec.d_mul)
    matrices = delta.reshape(spec.groups, -1, spec.d_mul, spec.area)
    change = torch.einsum("gocs,gcsk->gock", kernels, matrices).reshape(spec.composed_shape)
    return weight + change if spec.has_plain_weight else change


def arrays(spec, dtype=torch.float64):
    torch.manual_seed(0)
    shapes = (spec.weight_shape, spec.delta_shape)
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


@pytest.fixture(
    params=[pytest.param(name, marks=needs_loops if "loops" in name else ()) for name in WAYS]
)
def way(request):
    return WAYS[request.param]


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_a_compiler_has_made_the_loops():
    assert set(native.LIBRARIES) == set(native.DTYPES)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("spec", SPECS)
def test_it_is_the_einsum(way, spec, dtype):
    given = arrays(spec, dtype)
    expected, found = einsum(*given, spec), way(*given, spec)
    torch.testing.assert_close(found, expected)
    grad = torch.randn_like(expected)
    for gradient, expected_gradient in zip(
        torch.autograd.grad(found, given, grad),
        torch.autograd.grad(expected, given, grad),
        strict=True,
    ):
        torch.testing.assert_close(gradient, expected_gradient)


@pytest.mark.parametrize("spec", [Spec(4, 10, (9,), groups=2), Spec(2, 2, (2,), d_mul=9)])
def test_gradients_of_every_order(way, spec):
    given = arrays(spec)
    assert gradcheck(
        lambda *a: way(*a, spec),
        given,
        check_batched_grad=way is not operators.composed,
        check_forward_ad=way is formula.composed,
    )
    assert gradgradcheck(lambda *a: way(*a, spec), given)


def test_every_kind_of_gradient_of_the_layers_own_function():
    given = arrays(Spec(4, 10, (9,), groups=2))
    every = {
        "check_batched_grad": True,
        "check_forward_ad": True,
        "check_batched_forward_grad": True,
    }
    assert gradcheck(lambda *a: compose(*a, 2), given, **every)
    assert gradgradcheck(lambda *a: compose(*a, 2), given, check_fwd_over_rev=True)


@pytest.mark.parametrize("in_dims", [(0, 0), (0, None), (None, 0)])
@pytest.mark.parametrize("way", ["formula", "unrolled"], indirect=True)
def test_many_at_once(way, in_dims):
    spec = Spec(8, 4, (3, 3))
    pairs = [torch.stack([array.detach(), -2 * array.detach()]) for array in arrays(spec)]
    given = [array if dim == 0 else array[0] for array, dim in zip(pairs, in_dims, strict=True)]
    found = torch.vmap(lambda *a: way(*a, spec), in_dims)(*given)
    weights, deltas = (
        pair[[0, 0 if dim is None else 1]] for pair, dim in zip(pairs, in_dims, strict=True)
    )
    expected = [einsum(*a, spec) for a in zip(weights, deltas, strict=True)]
    torch.testing.assert_close(found, torch.stack(expected))


# From 2.14 on the check itself reads the gradient of a tensor that is no leaf.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@needs_loops
def test_pytorch_finds_no_fault_with_the_operators():
    weight, delta = arrays(Spec(8, 4, (3, 3)))
    torch.library.opcheck(torch.ops.do_conv.compose, (weight, delta, True))
    given = weight.detach(), delta.detach(), torch.randn_like(weight), True
    torch.library.opcheck(torch.ops.do_conv.differentiate, given)


def targets(function, *arguments):
    """What the graphs call into which a function is compiled."""
    graphs = []

    def keep(graph, _):
        graphs.append(graph)
        return graph.forward

    torch.compile(function, backend=keep, fullgraph=True)(*arguments)
    return [str(node.target) for graph in graphs for node in graph.graph.nodes]


@needs_loops
def test_a_compiler_has_the_operator_but_not_in_a_transform():
    given = arrays(Spec(4, 4, (3, 3)))
    assert any("do_conv.compose" in name for name in targets(compose, *given))
    stacked = [array.detach()[None] for array in given]
    assert not any("do_conv" in name for name in targets(torch.vmap(compose), *stacked))


def test_a_compiler_takes_gradients_of_many_at_once():
    given = [
        torch.stack([array.detach(), 2 * array.detach()]) for array in arrays(Spec(4, 4, (3, 3)))
    ]
    gradients = torch.vmap(torch.func.grad(lambda *a: compose(*a).square().sum(), (0, 1)))
    found = torch.compile(gradients, fullgraph=True)(*given)
    torch.testing.assert_close(found, gradients(*given))


def test_a_record_of_operators_holds_the_composition():
    given = [array.detach() for array in arrays(Spec(4, 4, (3, 3)))]

    def recorded(weight, delta):
        return compose(weight, delta)

    graph = make_fx(recorded)(*given)
    torch.testing.assert_close(graph(*given), compose(*given))


def test_a_gradient_that_has_a_tangent():
    spec = Spec(4, 4, (3, 3))
    given, changes = arrays(spec), [torch.randn_like(array) for array in arrays(spec)]
    expected = torch.func.jvp(
        torch.func.grad(lambda *a: einsum(*a, spec).square().sum(), (0, 1)),
        tuple(given), tuple(changes),
    )[1]  # fmt: skip
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(*pair) for pair in zip(given, changes, strict=True)]
        gradients = torch.autograd.grad(compose(*duals).square().sum(), duals)
        found = tuple(forward_ad.unpack_dual(gradient).tangent for gradient in gradients)
    torch.testing.assert_close(found, expected)


@needs_loops
def test_a_gradient_that_is_not_asked_for_is_not_written():
    weight, delta = (array.detach() for array in arrays(Spec(8, 6, (3, 3))))
    grad = torch.randn_like(weight)
    both = loops.differentiate(weight, delta, grad, True)
    for asked in ((True, False), (False, True)):
        found = loops.differentiate(weight, delta, grad, True, asked)
        for gradient, whole, is_asked in zip(found, both, asked, strict=True):
            assert torch.equal(gradient, whole) if is_asked else gradient is None


@needs_loops
def test_an_array_that_only_says_that_it_is_negative():
    weight, delta = arrays(Spec(4, 4, (3, 3)))
    negative = torch._neg_view(weight.detach())
    torch.testing.assert_close(compose(negative, delta), compose(-weight, delta))


@pytest.mark.parametrize("frozen", [0, 1])
def test_what_is_frozen_has_no_gradient(way, frozen):
    spec = Spec(4, 4, (3, 3))
    given = arrays(spec)
    expected = torch.autograd.grad(einsum(*given, spec).sum(), given)[1 - frozen]
    given[frozen].requires_grad_(False)
    way(*given, spec).sum().backward()
    assert given[frozen].grad is None
    torch.testing.assert_close(given[1 - frozen].grad, expected)


@pytest.mark.parametrize(
    "way", ["formula", pytest.param("loops", marks=needs_loops)], indirect=True
)  # a compiler chooses itself
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


@needs_loops
@drawn(st.data())
def test_the_loops_read_and_write_their_own_arrays_alone(data):
    groups, rows, channels = (data.draw(st.integers(1, most)) for most in (3, 9, 40))
    area = data.draw(st.integers(1, 20) | st.just(9))
    slots = data.draw(st.integers(1, 20) | st.just(area))
    dtype = data.draw(st.sampled_from(DTYPES))
    is_last = data.draw(st.booleans())
    if is_last:
        channels, area, slots, dtype = 8 * data.draw(st.integers(1, 6)), 9, 9, torch.float32
    is_added = slots == area
    kernel, matrix = (groups * rows, channels), (groups * channels,)
    shapes = [(*kernel, slots), (*matrix, slots, area), (*kernel, area)]
    around, (weight, delta, grad, composed, transposed, *gradients) = _between_nan(
        [*shapes, shapes[2], shapes[1], *shapes[:2]], dtype
    )
    call = (str(dtype).removeprefix("torch."), 2, (groups, rows, channels, slots, area), is_added)
    inputs = {"weight": weight.data_ptr(), "delta": delta.data_ptr(), "is_last": is_last}
    native.compose(*call, **inputs, composed=composed.data_ptr())
    native.differentiate(
        *call, **inputs, grad=grad.data_ptr(), transposed=transposed.data_ptr(),
        grad_weight=gradients[0].data_ptr(), grad_delta=gradients[1].data_ptr(),
    )  # fmt: skip
    if is_last:  # what the loops have read and written lies `(C_out, area, channels)`
        weight, grad, composed, gradients[0] = (
            array.view(-1, area, channels).mT.contiguous()
            for array in (weight, grad, composed, gradients[0])
        )
    kernels, grads = (array.view(groups, rows, channels, -1) for array in (weight, grad))
    matrices = delta.view(groups, channels, slots, area)
    expected = torch.einsum("gocs,gcsk->gock", kernels, matrices).reshape(composed.shape)
    of_weight = torch.einsum("gock,gcsk->gocs", grads, matrices).reshape(weight.shape)
    of_delta = torch.einsum("gocs,gock->gcsk", kernels, grads).reshape(delta.shape)
    torch.testing.assert_close(composed, expected + weight if is_added else expected)
    torch.testing.assert_close(gradients[0], of_weight + grad if is_added else of_weight)
    torch.testing.assert_close(gradients[1], of_delta)
    assert all(array[:GUARD].isnan().all() and array[-GUARD:].isnan().all() for array in around)


GUARD = 16


def _between_nan(shapes, dtype):
    """Arrays that lie between numbers that are none, and what they lie in."""
    generator = torch.Generator().manual_seed(0)
    around, arrays = [], []
    for shape in shapes:
        size = torch.Size(shape).numel()
        around.append(torch.full((size + 2 * GUARD,), torch.nan, dtype=dtype))
        arrays.append(around[-1][GUARD:-GUARD].view(shape))
        arrays[-1].normal_(generator=generator)
    return around, arrays


@needs_loops
@pytest.mark.parametrize("spec", [Spec(128, 120, (3, 3)), Spec(198, 231, (3, 3), groups=3)])
def test_the_number_of_threads_changes_no_bit(spec):
    given = arrays(spec, torch.float32)
    threads, found = torch.get_num_threads(), []
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            composed = loops.composed(*given, spec)
            found.append((composed, *torch.autograd.grad(composed.square().sum(), given)))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(single, threaded) for single, threaded in zip(*found, strict=True))


@needs_loops
@pytest.mark.parametrize(
    "spec", [Spec(24, 5, (3, 3)), Spec(80, 30, (1, 9), groups=2), Spec(352, 336, (3, 3))]
)
def test_channels_last_gives_the_same(spec):
    weight, delta = arrays(spec, torch.float32)
    target = torch.randn(spec.composed_shape)
    found = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        kernel = weight.detach().clone(memory_format=memory_format).requires_grad_()
        composed = loops.composed(kernel, delta, spec)
        assert composed.is_contiguous(memory_format=memory_format)
        grad = (composed - target).detach().contiguous(memory_format=memory_format)
        found.append((composed, *torch.autograd.grad(composed, (kernel, delta), grad)))
    *kernels, of_delta = zip(*found, strict=True)
    assert all(torch.equal(*pair) for pair in kernels)
    # A sum over all rows, which a compiler may round in another way.
    tolerance = 100 * torch.finfo(torch.float32).eps * of_delta[0].abs().max()
    torch.testing.assert_close(*of_delta, rtol=0, atol=float(tolerance))


@needs_loops
def test_arrays_for_which_large_pages_are_asked():
    spec = Spec(1025, 1025, (3, 3))
    given = arrays(spec, torch.float32)
    expected, found = formula.composed(*given, spec), loops.composed(*given, spec)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    gradient, expected_gradient = (
        torch.autograd.grad(way.sum(), given[0])[0] for way in (found, expected)
    )
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-4)


def multiplies_matrices(spec, dtype=torch.float64):
    """Whether PyTorch's own matrix product runs in a composition, as the profiler sees it."""
    weight, delta = arrays(spec, dtype)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        compose(weight, delta, spec.groups)
    return "aten::matmul" in {event.key for event in profile.key_averages()}


@needs_loops
@pytest.mark.parametrize(
    ("spec", "dtype", "expected"),
    [
        pytest.param(Spec(96, 64, (3, 3)), torch.float32, False, id="3x3"),
        pytest.param(Spec(96, 64, (3, 3)), torch.bfloat16, True, id="half-precision"),
        pytest.param(Spec(8, 8, (8, 8)), torch.float32, True, id="8x8"),
        pytest.param(Spec(96, 96, (3, 3), groups=96), torch.float32, True, id="depthwise"),
    ],
)
def test_the_loops_are_for_what_they_are_fast_for(spec, dtype, expected):
    assert multiplies_matrices(spec, dtype) == expected


def test_without_the_loops_there_is_the_formula(monkeypatch):
    monkeypatch.setattr(loops, "_DTYPES", {})
    assert multiplies_matrices(Spec(8, 4, (3, 3)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_identity_start_stays_to_the_last_bit(dtype):
    layer = DOConv2d(96, 64, 3, dtype=dtype)
    assert torch.equal(layer.composed_weight(), layer.weight)


def test_a_graph_for_elsewhere_has_one_product():
    layer = DOConv2d(96, 64, 3).eval()
    program = torch.export.export(layer, (torch.randn(1, 96, 4, 4),))
    called = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert sum("matmul" in name for name in called) == 1
    assert not any("zeros" in name for name in called)
