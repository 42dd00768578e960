"""The pictures: what is drawn where."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from do_conv import figures

PLAIN = {"plain": [[10.0, 20.0, 60.0], [30.0, 40.0, 80.0]]}


@pytest.fixture
def axes():
    return Figure().subplots()


def kernel(position):
    """W and D' of a layer in which D changes one position alone."""
    delta = np.zeros((1, 4, 2, 2))
    delta.reshape(4, 4)[0, position] = 0.5
    return np.ones((1, 1, 2, 2)), delta


def test_a_curve_is_the_mean_of_the_seeds_within_their_range(axes):
    figures.draw_curves(axes, PLAIN, goal=70.0)
    curve, goal = axes.lines
    assert (list(curve.get_xdata()), list(curve.get_ydata())) == ([1, 2, 3], [20, 30, 70])
    assert set(goal.get_ydata()) == {70}
    (band,) = axes.collections
    corners = {tuple(map(float, corner)) for corner in band.get_paths()[0].vertices}
    assert corners == {(1, 10), (2, 20), (3, 60), (1, 30), (2, 40), (3, 80)}


@pytest.mark.parametrize("change", [np.array([0.25, 0.5]), np.array([[0.0, 0.5], [0.0, 0.25]])])
def test_heat_maps_of_all_layers_have_one_scale(axes, change):
    figures.draw_change(axes, change)
    (image,) = axes.images
    np.testing.assert_array_equal(image.get_array(), np.atleast_2d(change))
    assert image.get_clim() == (0, 1)


def test_each_row_has_the_kernels_of_its_own_network(tmp_path):
    drawn = {}
    for second in (0, 3):
        path = tmp_path / f"{second}.png"
        kernels = {"one": [kernel(0)], "other": [kernel(second)]}
        figures.training_picture(path, dict.fromkeys(kernels, PLAIN), kernels)
        drawn[second] = path.read_bytes()
    assert drawn[0] != drawn[3]


def test_of_a_kernel_of_three_axes_the_mean_over_its_depth_is_drawn(tmp_path):
    change = np.random.default_rng(0).random((3, 2, 4))
    figures.change_picture(tmp_path / "deep.png", {"a layer": change})
    figures.change_picture(tmp_path / "flat.png", {"a layer": change.mean(0)})
    assert (tmp_path / "deep.png").read_bytes() == (tmp_path / "flat.png").read_bytes()


def test_more_layers_than_fit_into_a_row(tmp_path):
    changes = {str(i): np.full((2, 2), i / 9) for i in range(figures.COLUMNS + 1)}
    figures.change_picture(tmp_path / "all.png", changes)
    *_, last = changes
    changes[last] = changes[last] / 2
    figures.change_picture(tmp_path / "other.png", changes)
    assert (tmp_path / "all.png").read_bytes() != (tmp_path / "other.png").read_bytes()
