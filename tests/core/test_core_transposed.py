"""Transposed layers by both compositions: sizes, gradients, and what is refused."""

import numpy as np
import pytest

from do_conv import DOConvError, Spec, Window, compose, compose_gradients
from do_conv.core.transposed import (
    convolve_transposed,
    convolve_transposed_features,
    transposed_feature_gradients,
    transposed_gradients,
    transposed_size,
)

LAYERS = [
    # in, out, groups, d_mul, size, kernel, stride, padding, dilation, output_padding
    pytest.param(4, 6, 1, None, (4,), (3,), 2, 0, 1, 1, id="1d"),
    pytest.param(4, 6, 2, None, (3, 4), (3, 2), 1, 0, 1, 0, id="2d-groups"),
    pytest.param(4, 8, 4, 11, (3, 4), (3, 3), (2, 3), (1, 0), 1, (1, 2), id="2d-depthwise"),
    pytest.param(6, 4, 2, 7, (3, 4), (2, 3), 2, ((0, 1), (1, 0)), (2, 1), 1, id="2d-pairs"),
    pytest.param(3, 4, 1, None, (3, 4), (4, 3), 2, "same", 1, 0, id="2d-same"),
    pytest.param(3, 4, 1, None, (4,), (2,), 1, 0, 3, 2, id="1d-padding-beyond-the-stride"),
    pytest.param(2, 3, 1, 14, (2, 3, 2), (2, 2, 3), (1, 2, 2), 0, 1, 0, id="3d"),
]


@pytest.mark.parametrize(
    ("c_in", "c_out", "groups", "d_mul", "size", "k", "stride", "padding", "dilation", "extra"),
    LAYERS,
)
def test_both_compositions_and_their_gradients(
    c_in, c_out, groups, d_mul, size, k, stride, padding, dilation, extra
):
    spec = Spec(c_in, c_out, k, groups, d_mul, transposed=True)
    window = Window(k, stride, padding, dilation)
    rng = np.random.default_rng(0)
    x, bias = rng.standard_normal((2, c_in, *size)), rng.standard_normal(c_out)
    weight, delta = rng.standard_normal(spec.weight_shape), rng.standard_normal(spec.delta_shape)
    assert weight.shape[:2] == (c_in, c_out // groups)
    assert delta.shape[0] == c_out
    kernel = compose(weight, delta, groups)
    out = convolve_transposed(x, kernel, window, groups, bias, extra)
    assert out.shape == (2, c_out, *transposed_size(size, window, extra))
    by_feature = convolve_transposed_features(x, weight, delta, spec, window, bias, extra)
    np.testing.assert_allclose(by_feature, out, rtol=0, atol=1e-12 * np.abs(out).max())

    grad = rng.standard_normal(out.shape)
    by_x, by_kernel, by_bias = transposed_gradients(grad, x, kernel, window, groups)
    # The output is linear in each of the three.
    for found, moved, probe in (
        (by_x, x, convolve_transposed(x, kernel, window, groups, None, extra)),
        (by_kernel, kernel, convolve_transposed(x, kernel, window, groups, None, extra)),
        (by_bias, bias, out - convolve_transposed(x, kernel, window, groups, None, extra)),
    ):
        limit = 1e-12 * np.linalg.norm(grad) * np.linalg.norm(probe)
        assert abs(np.vdot(found, moved) - np.vdot(grad, probe)) < limit
    expected = (by_x, *compose_gradients(by_kernel, weight, delta, groups), by_bias)
    found = transposed_feature_gradients(grad, x, weight, delta, spec, window)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12 * np.abs(other).max())


@pytest.mark.parametrize(
    ("stride", "k", "dilation"), [(1, 3, 1), (2, 4, 1), (2, 3, 1), (3, 2, 1), (1, 3, 2)]
)
def test_same_gives_the_size_times_the_stride(stride, k, dilation):
    window = Window((k,), stride, "same", dilation)
    out = convolve_transposed(np.ones((1, 1, 5)), np.ones((1, 1, k)), window)
    assert out.shape == (1, 1, 5 * stride)


def test_a_transposed_spec_has_the_shapes_of_the_adjoint():
    spec = Spec(4, 6, (3, 3), 2, 11, transposed=True)
    adjoint = Spec(6, 4, (3, 3), 2, 11)
    assert (spec.in_channels, spec.out_channels) == (4, 6)
    assert (spec.weight_shape, spec.delta_shape, spec.composed_shape) == (
        adjoint.weight_shape, adjoint.delta_shape, adjoint.composed_shape,
    )  # fmt: skip
    assert Spec(None, 6, (3, 3), 2, 11, transposed=True).with_in_channels(4) == spec


def test_exception_a_transposed_spec_names_the_layers_own_channels():
    with pytest.raises(DOConvError, match=r"divide the input channels; .* 4 input channels"):
        Spec(4, 6, (3, 3), 3, transposed=True)
    with pytest.raises(DOConvError, match=r"divide the input channels; .* 4 input channels"):
        Spec(None, 6, (3, 3), 3, transposed=True).with_in_channels(4)
    with pytest.raises(DOConvError, match=r"in_channels must be a positive integer; .*=0"):
        Spec(0, 6, (3, 3), transposed=True)


@pytest.mark.parametrize(
    ("extra", "stride", "dilation", "match"),
    [
        (-1, 2, 1, "output_padding must be .* at least 0; .*-1; give a whole"),
        (2, 2, 1, r"smaller than the stride or the dilation .*\(2,\) with stride=\(2,\), .*less"),
        ((1, 1), 2, 1, "output_padding of a 1-D layer has 1 axes"),
    ],
)
def test_exception_output_padding(extra, stride, dilation, match):
    window = Window((3,), stride, 0, dilation)
    with pytest.raises(DOConvError, match=match):
        convolve_transposed(np.zeros((1, 1, 3)), np.ones((1, 1, 3)), window, 1, None, extra)


def test_output_padding_may_reach_the_dilation():
    window = Window((2,), 1, 0, 3)
    out = convolve_transposed(np.ones((1, 1, 3)), np.ones((1, 1, 2)), window, output_padding=2)
    np.testing.assert_array_equal(out[0, 0], [1, 1, 1, 1, 1, 1, 0, 0])


@pytest.mark.parametrize("options", [{"padding": "causal"}, {"padding_mode": "reflect"}])
def test_exception_a_transposed_convolution_pads_with_zeros(options):
    with pytest.raises(DOConvError, match=r"padding of zeros, and not causal; .*; give numbers"):
        convolve_transposed(np.ones((1, 2, 4)), np.ones((2, 2, 3)), Window((3,), **options))
