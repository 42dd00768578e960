"""The values of a kernel that are compared, to notice that somebody else has written it."""

import numpy as np
import pytest

from do_conv.models import samples


@pytest.mark.parametrize("shape", [(64, 3, 3, 3), (3, 3, 3, 64), (256, 128, 3, 3), (5, 5, 16, 32)])
def test_a_write_of_any_row_channel_or_position_is_met(shape):
    places = samples.places(int(np.prod(shape)))
    assert len(set(places)) == samples.SAMPLE
    for axis, index in enumerate(np.unravel_index(places, shape)):
        assert set(index) == set(range(shape[axis])), axis


@pytest.mark.parametrize("numbers", [0, 1, 255, 256])
def test_of_a_small_kernel_all_values_are_compared(numbers):
    assert list(samples.places(numbers)) == list(range(numbers))
