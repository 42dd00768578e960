"""`do_conv.torch.compose`: the core's function, on tensors."""

import numpy as np
import pytest
import torch

import do_conv
from do_conv.torch import compose

SHAPES = [
    ((6, 4, 3, 3), (4, 9, 3, 3), 1),
    ((6, 2, 11), (4, 11, 3, 3), 2),
    ((4, 1, 5), (4, 5, 5), 4),
]


@pytest.mark.parametrize(("weight", "delta", "groups"), SHAPES)
def test_it_is_the_cores(weight, delta, groups):
    rng = np.random.default_rng(0)
    weight, delta = rng.standard_normal(weight), rng.standard_normal(delta)
    expected = do_conv.compose(weight, delta, groups)
    found = compose(torch.from_numpy(weight), torch.from_numpy(delta), groups)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-14 * abs(expected).max())


def test_without_a_delta_the_kernel_is_the_weight():
    weight = torch.randn(4, 3, 1, 1)
    assert compose(weight, None) is weight


def test_exception_shapes_of_two_layers():
    with pytest.raises(
        do_conv.DOConvError, match=r"received weight \(6, 4, 3, 3\), delta .*; check"
    ):
        compose(torch.zeros(6, 4, 3, 3), torch.zeros(6, 9, 3, 3))
