"""The core still gives what it once gave, for layers kept in `tests/data/goldens.npz`."""

from pathlib import Path

import numpy as np
import pytest

from do_conv import Spec, Window, compose
from do_conv.core.convolution import convolve
from do_conv.core.features import convolve_features

FILE = Path(__file__).parents[1] / "data" / "goldens.npz"
with np.load(FILE) as stored:
    GOLDENS = dict(stored)
NAMES = sorted({key.split("/")[0] for key in GOLDENS})


@pytest.mark.parametrize("name", NAMES)
def test_golden(name):
    golden = {key.split("/")[1]: a for key, a in GOLDENS.items() if key.split("/")[0] == name}
    x, weight, delta, bias = (golden[key] for key in ("x", "weight", "delta", "bias"))
    groups = int(golden["groups"])
    window = Window(
        delta.shape[2:],
        *(golden[key].tolist() for key in ("stride", "padding", "dilation")),
    )
    composed = compose(weight, delta, groups)
    by_kernel = convolve(x, composed, window, groups, bias)
    spec = Spec.of_shapes(weight.shape, delta.shape, groups)
    by_feature = convolve_features(x, weight, delta, spec, window, bias)
    np.testing.assert_allclose(composed, golden["composed"], rtol=1e-13)
    np.testing.assert_allclose(by_kernel, golden["output"], rtol=1e-13)
    np.testing.assert_allclose(by_feature, golden["output"], rtol=1e-13)


def test_smoke_goldens_are_many_and_small():
    assert len(NAMES) == 8
    assert FILE.stat().st_size < 100_000
