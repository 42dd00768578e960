"""The slow convolution against one written as loops, its gradients and its adjoint."""

import math

import numpy as np
import pytest
from scipy.signal import correlate

from do_conv import DOConvError, Window
from do_conv.core.convolution import (
    convolve,
    convolve_gradients,
    input_gradient,
)
from do_conv.core.features import pointwise_window
from do_conv.core.transposed import convolve_transposed

# size, kernel, stride, padding, the padding as pairs by hand, dilation, mode
CASES = [
    ((6,), (3,), 1, 0, [(0, 0)], 1, "zeros"),
    ((7,), (2,), 2, 1, [(1, 1)], 1, "zeros"),
    ((7,), (3,), 2, "same", [(1, 1)], 1, "zeros"),
    ((6,), (3,), 2, "same", [(0, 1)], 1, "zeros"),
    ((6,), (2,), 1, "same", [(1, 2)], 3, "zeros"),
    ((6,), (3,), 1, "causal", [(4, 0)], 2, "zeros"),
    ((5, 6), (3, 2), 1, "valid", [(0, 0), (0, 0)], 1, "zeros"),
    ((5, 6), (3, 2), (2, 1), (1, 2), [(1, 1), (2, 2)], 1, "zeros"),
    ((5, 6), (2, 3), (1, 3), ((0, 1), (2, 0)), [(0, 1), (2, 0)], (2, 1), "zeros"),
    ((5, 4), (3, 3), 1, "same", [(1, 1), (1, 1)], 1, "reflect"),
    ((5, 4), (2, 3), 2, ((2, 1), (0, 3)), [(2, 1), (0, 3)], 1, "reflect"),
    ((5, 4), (2, 3), 1, ((2, 1), (0, 3)), [(2, 1), (0, 3)], 1, "replicate"),
    ((5, 4), (2, 3), 1, ((2, 1), (0, 3)), [(2, 1), (0, 3)], 1, "circular"),
    ((3, 4, 3), (2, 1, 2), (1, 2, 1), 1, [(1, 1), (1, 1), (1, 1)], 1, "zeros"),
    ((4, 3, 5), (2, 2, 1), 1, "same", [(1, 1), (0, 1), (0, 0)], (2, 1, 1), "circular"),
]
GROUPS = [1, 2, 4]


def every(value, rank):
    return (value,) * rank if isinstance(value, int) else value


def read(x, index, mode):
    """What the padded input holds at `index`, by index arithmetic and without padding anything."""
    found = []
    for i, n in zip(index, x.shape, strict=True):
        if not 0 <= i < n and mode == "zeros":
            return 0.0
        reflected = -i if i < 0 else 2 * (n - 1) - i if i >= n else i
        clamped = min(max(i, 0), n - 1)
        found.append({"reflect": reflected, "replicate": clamped}.get(mode, i % n))
    return x[tuple(found)]


def loop_convolve(x, kernel, stride, pads, dilation, groups, mode="zeros"):
    """Every product of the convolution, one at a time."""
    rank = x.ndim - 2
    c_out, per_group, *k_size = kernel.shape
    stride, dilation = every(stride, rank), every(dilation, rank)
    size = [
        (n + sum(pad) - d * (k - 1) - 1) // s + 1
        for n, pad, d, k, s in zip(x.shape[2:], pads, dilation, k_size, stride, strict=True)
    ]
    out = np.zeros((x.shape[0], c_out, *size))
    for b, o, *position in np.ndindex(*out.shape):
        for c, *k in np.ndindex(per_group, *k_size):
            index = [
                p * s + q * d - before
                for p, s, q, d, (before, _) in zip(position, stride, k, dilation, pads, strict=True)
            ]
            channel = o // (c_out // groups) * per_group + c
            out[(b, o, *position)] += kernel[(o, c, *k)] * read(x[b, channel], index, mode)
    return out


def assert_close(actual, expected, tolerance=1e-13):
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def layer(size, kernel_size, groups, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2, 4, *size))
    kernel = rng.standard_normal((8, 4 // groups, *kernel_size))
    return x, kernel, rng.standard_normal(8)


@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize(("size", "k", "stride", "padding", "pads", "dilation", "mode"), CASES)
def test_smoke_convolve_is_the_loop(size, k, stride, padding, pads, dilation, mode, groups):
    x, kernel, bias = layer(size, k, groups)
    window = Window(k, stride, padding, dilation, mode)
    assert window.pads(size) == tuple(pads)
    expected = loop_convolve(x, kernel, stride, pads, dilation, groups, mode)
    assert window.output_size(size) == expected.shape[2:]
    assert_close(convolve(x, kernel, window, groups), expected)
    with_bias = expected + bias.reshape(1, 8, *[1] * len(size))
    assert_close(convolve(x, kernel, window, groups, bias), with_bias)


@pytest.mark.parametrize("size", [(7,), (5, 6), (4, 3, 5)])
def test_convolve_is_scipys_correlation(size):
    x, kernel, _ = layer(size, (3, 2, 2)[: len(size)], 1)
    # Correlating the channels' axis too leaves one position of it.
    expected = np.array([[correlate(one, out, "valid")[0] for out in kernel] for one in x])
    assert_close(convolve(x, kernel, Window(kernel.shape[2:])), expected)


@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize(("size", "k", "stride", "padding", "pads", "dilation", "mode"), CASES)
def test_gradients_are_the_adjoint(size, k, stride, padding, pads, dilation, mode, groups):
    x, kernel, _ = layer(size, k, groups)
    window = Window(k, stride, padding, dilation, mode)
    grad = np.random.default_rng(1).standard_normal(convolve(x, kernel, window, groups).shape)
    grad_x, grad_kernel, grad_bias = convolve_gradients(grad, x, kernel, window, groups)
    assert (grad_x.shape, grad_kernel.shape) == (x.shape, kernel.shape)
    # The output is linear in each of the three, so any probe tells.
    probe, kernel_probe, bias_probe = layer(size, k, groups, seed=2)
    zeros = np.zeros_like(x)
    by_probe = convolve(probe, kernel, window, groups)
    for found, one, moved in (
        (grad_x, probe, by_probe),
        (input_gradient(grad, kernel, window, size, groups), probe, by_probe),
        (grad_kernel, kernel_probe, convolve(x, kernel_probe, window, groups)),
        (grad_bias, bias_probe, convolve(zeros, kernel, window, groups, bias_probe)),
    ):
        assert abs(np.vdot(found, one) - np.vdot(grad, moved)) < (
            1e-13 * np.linalg.norm(grad) * np.linalg.norm(moved)
        )


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_gradients_element_by_element(mode):
    rng = np.random.default_rng(0)
    x, kernel = rng.standard_normal((1, 2, 4, 3)), rng.standard_normal((2, 1, 2, 3))
    window = Window((2, 3), (2, 1), ((1, 2), (2, 1)), (1, 2), mode)
    grad = rng.standard_normal(convolve(x, kernel, window, 2).shape)
    grad_x, grad_kernel, _ = convolve_gradients(grad, x, kernel, window, 2)
    for array, found, loss in (
        (x, grad_x, lambda one: (grad * convolve(one, kernel, window, 2)).sum()),
        (kernel, grad_kernel, lambda one: (grad * convolve(x, one, window, 2)).sum()),
    ):
        expected = np.empty_like(array)
        for index in np.ndindex(array.shape):
            step = array.astype(complex)
            step[index] += 1e-30j
            expected[index] = loss(step).imag / 1e-30
        assert_close(found, expected)


@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize(
    ("size", "k", "stride", "padding", "dilation", "extra", "expected"),
    [
        ((4,), (3,), 1, 0, 1, 0, (6,)),
        ((4,), (3,), 2, 1, 1, 1, (8,)),
        ((3, 4), (2, 3), (2, 3), (0, 1), (2, 1), (1, 2), (8, 12)),
        ((3, 2), (3, 3), 2, ((0, 1), (2, 0)), 1, 0, (6, 3)),
        ((2, 3, 2), (2, 1, 3), (2, 1, 3), 0, 1, (0, 0, 2), (4, 3, 8)),
    ],
)
def test_transposed_is_the_adjoint(size, k, stride, padding, dilation, extra, expected, groups):
    rng = np.random.default_rng(0)
    window = Window(k, stride, padding, dilation)
    x, kernel = rng.standard_normal((2, 8, *size)), rng.standard_normal((8, 4 // groups, *k))
    y = rng.standard_normal((2, 4, *expected))
    bias = rng.standard_normal(4)
    out = convolve_transposed(x, kernel, window, groups, output_padding=extra)
    assert out.shape == y.shape
    forward = loop_convolve(y, kernel, stride, window.pads(expected), dilation, groups)
    assert forward.shape == x.shape
    assert abs(np.vdot(out, y) - np.vdot(x, forward)) < (
        1e-13 * np.linalg.norm(x) * np.linalg.norm(forward)
    )
    with_bias = convolve_transposed(x, kernel, window, groups, bias, extra)
    np.testing.assert_array_equal(with_bias, out + bias.reshape(4, *[1] * len(size)))


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
def test_same_keeps_the_size_over_the_stride(k, dilation, stride):
    window = Window((k,), stride, "same", dilation)
    for n in range(1, 12):
        ((before, after),) = window.pads((n,))
        assert window.output_size((n,)) == (math.ceil(n / stride),)
        assert after - before in (0, 1)
        # One position less would lose an output, where there is any padding at all.
        fewer = (n + before + after - 1 - (k - 1) * dilation - 1) // stride + 1
        assert before + after == 0 or fewer < math.ceil(n / stride)


def test_causal_reads_nothing_that_comes_later():
    x, kernel, _ = layer((8,), (3,), 1)
    later = x.copy()
    later[:, :, 5:] += 1
    window = Window((3,), 1, "causal", 2)
    before, after = convolve(x, kernel, window), convolve(later, kernel, window)
    assert before.shape == (2, 8, 8)
    np.testing.assert_array_equal(before[:, :, :5], after[:, :, :5])
    assert (before[:, :, 5] != after[:, :, 5]).all()


@pytest.mark.parametrize("size", [(5,), (3, 4), (2, 3, 2)])
def test_pointwise_is_a_matrix_over_the_channels(size):
    x, kernel, _ = layer(size, (1,) * len(size), 1)
    expected = np.einsum("oi,ni...->no...", kernel.reshape(8, 4), x)
    assert_close(convolve(x, kernel, pointwise_window(len(size))), expected)


@pytest.mark.parametrize("function", [convolve, convolve_transposed])
@pytest.mark.parametrize(
    ("shape", "rule"),
    [
        ((2, 4, 6), "a 2-D layer takes an input of 4 axes"),
        ((2, 4, 5, 5, 5), "a 2-D layer takes an input of 4 axes"),
        ((2, 3, 5, 5), "the layer was made for 4 input channels"),
        ((2, 5, 5, 4), "the layer was made for 4 input channels"),
    ],
)
def test_exception_wrong_input(function, shape, rule):
    with pytest.raises(DOConvError, match=rf"{rule}.*received an input of shape \({shape[0]}, "):
        function(np.zeros(shape), np.zeros((4, 4, 3, 3)), Window((3, 3)))


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"padding": "full"}, "unknown padding 'full'; choose from same, valid"),
        (
            {"padding": "causal"},
            "unknown padding 'causal'; choose from same, valid",
        ),
        ({"padding": -1}, "padding must be an integer of at least 0; .*-1; give a whole"),
        ({"padding": ((1, 1),)}, "padding of a 2-D layer has 2 .* with 1 value; give one"),
        (
            {"padding": ((1, 1), (1, -1))},
            "padding must be .* at least 0; .*padding=-1; give a whole",
        ),
        (
            {"padding": ((1, 1, 1), 2)},
            r"an integer or a pair .*; received padding=\(\(1, 1, 1\), 2\)",
        ),
        ({"padding_mode": "mirror"}, "unknown padding_mode 'mirror'; choose from zeros, reflect,"),
        ({"stride": 0}, "stride must be a positive integer; .*stride=0; give a whole number"),
        ({"stride": (1, 2, 3)}, "stride of a 2-D layer has 2 axes; .* with 3 values; give one"),
        ({"dilation": (1, 1.5)}, "dilation must be a positive integer; .*1.5"),
    ],
)
def test_exception_window(arguments, match):
    with pytest.raises(DOConvError, match=match):
        Window((3, 3), **arguments)


def test_padding_may_mix_numbers_and_pairs():
    assert Window((3, 3), padding=((1, 2), 3)).padding == ((1, 2), (3, 3))


def test_exception_a_kernel_larger_than_the_padded_input():
    rule = r"at least as large as the dilated kernel, \(5,\); .*spatial size \(4,\); give a larger"
    with pytest.raises(DOConvError, match=rule):
        convolve(np.ones((1, 1, 2)), np.ones((1, 1, 3)), Window((3,), padding=1, dilation=2))


@pytest.mark.parametrize(("shape", "groups"), [((4, 4, 2, 3), 1), ((3, 2, 3, 2), 2)])
@pytest.mark.parametrize("function", [convolve, convolve_transposed])
def test_exception_a_kernel_that_is_not_the_windows(function, shape, groups):
    with pytest.raises(DOConvError, match=rf"groups={groups}; received a kernel of shape"):
        function(np.ones((1, shape[0], 6, 6)), np.ones(shape), Window((3, 2)), groups)
