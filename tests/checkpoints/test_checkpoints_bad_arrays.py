"""Files whose arrays are no layer's: one sentence of ours, and nothing written."""

import numpy as np
import pytest
import torch

from do_conv import checkpoints
from do_conv.torch import DOConv2d


def layer(prefix="conv."):
    state = DOConv2d(4, 6, 3, groups=2).state_dict()
    return {prefix + name: tensor for name, tensor in state.items()}


def changed(**changes):
    """A layer's state with arrays changed, added, or, by None, left out."""
    state = {**layer(), **{f"conv.{name}": array for name, array in changes.items()}}
    return {name: array for name, array in state.items() if array is not None}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"weight": None}, "of layer 'conv' in a checkpoint must be ['depthwise_delta', 'weight']"),
        (
            {"depthwise_weight": torch.ones(4, 1, 3, 3)},
            "received ['depthwise_delta', 'depthwise_we",
        ),
        ({"weight": torch.ones(6, 3, 3, 3)}, "layer 'conv' with weight (6, 3, 3, 3), delta (4, 9"),
        ({"weight": torch.ones(6, 2, 3, 5)}, "layer 'conv' with weight (6, 2, 3, 5), delta (4, 9"),
        ({"weight": torch.ones(5, 2, 3, 3)}, "layer 'conv' with weight (5, 2, 3, 3), delta (4, 9"),
        ({"weight": torch.ones(6, 0, 3, 3)}, "layer 'conv' with weight (6, 0, 3, 3), delta (4, 9"),
        ({"weight": torch.tensor(1.0)}, "layer 'conv' with weight (), delta (4, 9, 3, 3)"),
        ({"depthwise_delta": torch.ones(4, 8, 3, 3)}, "delta (4, 8, 3, 3)"),
        ({"bias": torch.ones(7)}, "bias (7,)"),
        ({"weight": torch.ones(6, 2, 3, 3, dtype=torch.int8)}, "conv.weight of dtype torch.int8"),
        ({"weight": torch.full((6, 2, 3, 3), torch.nan)}, "infinite values in its composed kernel"),
        ({"depthwise_delta": torch.full((4, 9, 3, 3), torch.inf)}, "in its composed kernel"),
        ({"bias": torch.full((6,), torch.nan)}, "infinite values in its bias"),
    ],
)
def test_arrays_that_are_not_a_layers(changes, said, tmp_path, refused):
    assert said in refused(tmp_path, changed(**changes))


def test_a_kernel_that_is_too_large_for_its_dtype(tmp_path, refused):
    state = {name: torch.full_like(one, 3e4).half() for name, one in layer().items()}
    assert "composed kernel" in refused(tmp_path, state)


def test_not_finite_kernels_can_be_asked_for(tmp_path):
    torch.save(changed(weight=torch.full((6, 2, 3, 3), torch.nan)), tmp_path / "in.pt")
    checkpoints.fold(tmp_path / "in.pt", tmp_path / "out.pt", check_finite=False)
    assert torch.load(tmp_path / "out.pt")["conv.weight"].isnan().all()


PARAMETRIZED = "conv.parametrizations.weight."


@pytest.mark.parametrize("other", ["1.scale", "original0"])
def test_a_weight_that_others_parametrize(other, tmp_path, refused):
    state = {
        f"{PARAMETRIZED}original": torch.ones(6, 4, 3, 3),
        f"{PARAMETRIZED}0.depthwise_delta": torch.zeros(4, 9, 3, 3),
        f"{PARAMETRIZED}{other}": torch.ones(6),
    }
    assert "DO-Conv is its only parametrization" in refused(tmp_path, state)


def test_a_plain_name_that_is_taken(tmp_path, refused):
    state = {
        "weight": torch.ones(6, 4, 1),
        "depthwise_weight": torch.ones(4, 1, 3, 3),
        "pointwise.weight": torch.ones(1),
    }
    assert "for which ['pointwise.weight'] are taken" in refused(tmp_path, state)


def test_nothing_to_fold_and_nothing_to_import(tmp_path, refused):
    plain = {"conv.weight": torch.ones(6, 4, 3, 3), "D": torch.ones(3)}
    assert "must hold a layer of do_conv;" in refused(tmp_path, plain)
    said = refused(tmp_path, plain, command=checkpoints.import_authors)
    assert "must hold a layer of the original authors" in said


THEIRS = {"a.W": np.ones((6, 2, 9)), "a.D": np.ones((4, 9, 9)), "a.d_diag": np.ones((4, 9, 9))}


@pytest.mark.parametrize(
    ("changes", "options", "said"),
    [
        ({"a.W": None}, {}, "of layer 'a' in a checkpoint must be ['D', 'W', 'd_diag']"),
        ({"a.D": None}, {}, "received ['W', 'd_diag']"),
        ({"a.kernel": np.ones((9, 4, 6))}, {}, "received ['D', 'W', 'd_diag', 'kernel']"),
        ({"a.D": np.ones((4, 9, 8))}, {}, "layer 'a' with a.W (6, 2, 9), a.D (4, 9, 8)"),
        ({"a.D": np.ones((5, 9, 9))}, {}, "a.D (5, 9, 9)"),
        ({"a.d_diag": np.ones((4, 9, 1))}, {}, "a.d_diag (4, 9, 1)"),
        ({"a.bias": np.ones(4)}, {}, "bias (4,)"),
        ({"a.W": np.full((6, 2, 9), np.nan)}, {}, "infinite values in its weight"),
        ({"a.D": np.ones((4, 9, 9), int)}, {}, "a.D of dtype int64"),
        ({"a.weight": np.ones(3)}, {}, "received ['D', 'W', 'd_diag', 'weight']"),
        ({"a.depthwise_delta": np.ones(3)}, {}, "for which ['a.depthwise_delta'] are taken"),
        ({}, {"kernel_size": (5, 5)}, "one of [9]; received kernel_size=(5, 5) with 25; leave it"),
        ({}, {"kernel_size": {"a": (2, 5)}}, "received kernel_size=(2, 5); give it by name"),
        (
            {},
            {"kernel_size": {"b": (3, 3)}},
            "unknown layer in kernel_size 'b'; the only one is a.",
        ),
        (
            {"a.W": np.ones((6, 2, 15)), "a.D": np.ones((4, 15, 15)), "a.d_diag": None},
            {"kernel_size": (3, 4)},
            "the kernel_size of layer 'a' must have its 15 positions; received none that fits;",
        ),
    ],
)
def test_arrays_that_are_not_the_authors(changes, options, said, tmp_path, refused):
    state = {name: one for name, one in {**THEIRS, **changes}.items() if one is not None}
    command = checkpoints.import_authors
    assert said in refused(tmp_path, state, ending=".npz", command=command, **options)
