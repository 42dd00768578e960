"""The original authors' checkpoints: in a file for our layers, with their outputs."""

import h5py
import numpy as np
import pytest
import torch

from do_conv import checkpoints, compose
from do_conv.checkpoints.formats import gluon, read
from do_conv.core import layouts

OTHERS = {"fc.weight": np.ones((3, 3), "float32"), "norm.count": np.array([7])}


def write_theirs(sample, folder):
    """A file as their users have it, with other arrays around; and its path."""
    state = {f"module.conv.{name}": array for name, array in sample.state.items()}
    if sample.name.startswith("torch"):
        # A layer of theirs beside it tells that one without a D is theirs, too.
        extra = {"module.two.W": np.ones((2, 3, 4)), "module.two.D": np.zeros((3, 4, 4))}
        tensors = {k: torch.from_numpy(v) for k, v in {**OTHERS, **state, **extra}.items()}
        torch.save({"epoch": 2, "state_dict": tensors}, folder / "in.pth")
        return folder / "in.pth"
    extra = {"two.kernel": np.ones((4, 3, 2)), "two.D": np.zeros((4, 4, 3))}
    if sample.name.startswith("tf"):
        np.savez(folder / "in.npz", **OTHERS, **state, **extra)
        return folder / "in.npz"
    mx = pytest.importorskip("mxnet")
    extra = {"two.weight": np.ones((2, 3, 2, 2)), "two.D": np.zeros((4, 4, 3))}
    arrays = {**OTHERS, **state, **extra}
    mx.nd.save(
        str(folder / "in.params"), {k: mx.nd.array(v, dtype=v.dtype) for k, v in arrays.items()}
    )
    return folder / "in.params"


def read_ours(path):
    """The arrays of a file, as NumPy has them."""
    if path.suffix == ".pth":
        content = torch.load(path)
        assert content["epoch"] == 2
        return {name: tensor.numpy() for name, tensor in content["state_dict"].items()}
    if path.suffix == ".npz":
        return dict(np.load(path))
    return {name: gluon.array(one) for name, one in read(gluon, path).states[0].items()}


def in_core_order(arrays, sample):
    """W, D' and the bias of the layer, in the core's order of axes."""
    kernel = "kernel" if sample.name.startswith("tf") else "weight"
    weight, delta = arrays[f"module.conv.{kernel}"], arrays.get("module.conv.depthwise_delta")
    if sample.name.startswith("tf"):
        weight = layouts.kernel_from_keras(weight)
        delta = None if delta is None else layouts.delta_from_keras(delta)
    return weight, delta, arrays.get("module.conv.bias")


@pytest.fixture
def imported(sample, tmp_path):
    pytest.importorskip("do_conv.gluon") if sample.name.startswith("gluon") else None
    source = write_theirs(sample, tmp_path)
    target = source.with_stem("out")
    area = sample.kernel_size[0] * sample.kernel_size[1]
    sides = None if area in (1, 4, 9, 25) else sample.kernel_size
    report = checkpoints.import_authors(source, target, kernel_size=sides)
    return read_ours(target), {layer.name: layer for layer in report.layers}.get("module.conv")


def test_the_outputs_are_theirs(sample, imported):
    arrays, _ = imported
    weight, delta, bias = (
        None if one is None else one.astype("float64") for one in in_core_order(arrays, sample)
    )
    kernel = compose(weight, delta, sample.config["groups"])
    sample.assert_same_output(sample.output(kernel, bias))


def test_the_arrays_have_our_names_shapes_and_dtype(sample, imported):
    arrays, _ = imported
    weight, delta, bias = in_core_order(arrays, sample)
    assert {name for name in arrays if name.startswith("module.")} <= {
        *(f"module.conv.{one}" for one in ("weight", "kernel", "depthwise_delta", "bias")),
        *(f"module.two.{one}" for one in ("weight", "kernel", "depthwise_delta")),
    }
    slots = sample.kernel_size if sample.config["D_mul"] in (1, 9, 15) else ()
    if slots == sample.kernel_size or weight.ndim == 4:
        assert weight.shape[2:] == sample.kernel_size
    else:
        assert weight.shape[2:] == (sample.config["D_mul"],)
    if delta is not None:
        channels = sample.config["in_channels"]
        assert delta.shape == (channels, sample.config["D_mul"], *sample.kernel_size)
    assert {one.dtype for one in (weight, delta, bias) if one is not None} == {sample.y.dtype}


def test_other_arrays_go_through(imported):
    arrays, _ = imported
    np.testing.assert_array_equal(arrays["fc.weight"], OTHERS["fc.weight"])
    assert "norm.count" in arrays


TOLD = {
    "torch_group2": ("folded in the authors' order",),
    "torch_group2_dmul25": ("folded in the authors' order",),
    "torch_group4_of8_out16": ("folded in the authors' order",),
    "torch_depthwise_multiplier2": ("folded in the authors' order",),
    "tf_group2": ("exact, with the rows of D in the paper's order",),
    "tf_group4_of8_out16": ("exact, with the rows of D in the paper's order",),
    "gluon_group2": ("exact, with the rows of D in the paper's order",),
    "gluon_group4_of8_out16": ("exact, with the rows of D in the paper's order",),
    "torch_conv_3x5": ("not square",),
    "torch_pointwise": ("without a D",),
    "tf_pointwise": ("without a D",),
}


def test_what_a_person_is_told(sample, imported):
    """Nothing but what is in the table, and that a side was not known.

    Gluon's layer with a kernel of one position is the plain one, and nothing is told of it.
    """
    arrays, layer = imported
    notes = () if layer is None else layer.notes
    told = [note for note in notes if not note.startswith("taken as square")]
    assert len(told) == len(TOLD.get(sample.name, ()))
    assert all(map(str.startswith, told, TOLD.get(sample.name, ())))
    _, delta, _ = in_core_order(arrays, sample)
    if "folded" in " ".join(told):
        assert not delta.any()
    elif delta is not None:
        assert delta.any()


@pytest.mark.parametrize("name", ["torch_conv3x3", "torch_dmul25", "torch_depthwise"])
def test_where_their_d_is_the_papers_w_and_d_keep_every_bit(name, load_sample, tmp_path):
    sample = load_sample(name)
    source = write_theirs(sample, tmp_path)
    checkpoints.import_authors(source, source.with_stem("out"))
    weight, delta, _ = in_core_order(read_ours(source.with_stem("out")), sample)
    theirs = sample.state["W"]
    np.testing.assert_array_equal(weight.reshape(theirs.shape), theirs)
    np.testing.assert_array_equal(
        delta.reshape(*delta.shape[:2], -1), sample.state["D"].swapaxes(1, 2)
    )


def import_state(state, folder, **options):
    source = folder / "in.npz"
    np.savez(source, **state)
    report = checkpoints.import_authors(source, folder / "out.npz", **options)
    return dict(np.load(folder / "out.npz")), report


def test_the_name_of_the_diagonal_before_2022(load_sample, tmp_path):
    sample = load_sample("torch_conv3x3")
    state = {f"a.{name}": array for name, array in sample.state.items()}
    expected, _ = import_state(state, tmp_path)
    state["a.D_diag"] = state.pop("a.d_diag")
    found, _ = import_state(state, tmp_path)
    assert found.keys() == expected.keys() == {"a.weight", "a.depthwise_delta", "a.bias"}
    np.testing.assert_array_equal(found["a.depthwise_delta"], expected["a.depthwise_delta"])


def test_a_diagonal_that_was_trained_or_left_out(load_sample, tmp_path):
    """Where all parameters were unfrozen, theirs is D plus whatever the diagonal has become."""
    state = load_sample("torch_conv3x3").state
    without = {name: array for name, array in state.items() if name != "d_diag"}
    expected, _ = import_state(without, tmp_path)
    found, report = import_state({**state, "d_diag": state["d_diag"] + 0.25}, tmp_path)
    np.testing.assert_allclose(
        found["depthwise_delta"], expected["depthwise_delta"] + 0.25, rtol=0, atol=1e-12
    )
    note = "its d_diag (D_diag) was not the identity; the difference is in D'"
    assert report.notes[note] == [""]


@pytest.mark.parametrize("diagonal", [False, True])
def test_a_multiplier_below_the_kernels_positions_is_folded(tmp_path, diagonal):
    rng = np.random.default_rng(0)
    weight, depthwise = rng.standard_normal((6, 4, 2)), rng.standard_normal((4, 9, 2))
    state = {"W": weight, "D": depthwise}
    if diagonal:
        state["d_diag"] = rng.standard_normal((4, 9, 2))
    found, report = import_state(state, tmp_path)
    total = depthwise + state.get("d_diag", 0)
    kernel = np.einsum("ocs,cks->ock", weight, total).reshape(6, 4, 3, 3)
    np.testing.assert_allclose(found["weight"], kernel, rtol=1e-12)
    assert not found["depthwise_delta"].any()
    assert any("its D_mul was below" in note for note in report.notes)


def test_the_report_counts_other_arrays_and_all_numbers(load_sample, tmp_path):
    state = load_sample("torch_conv3x3").state | {"fc.weight": np.ones((2, 5)), "step": np.ones(())}
    found, report = import_state(state, tmp_path)
    assert report.passed == 2
    assert report.numbers_before == sum(array.size for array in state.values())
    assert report.numbers_after == sum(array.size for array in found.values())
    assert report.numbers_after < report.numbers_before


def test_kernel_sizes_by_the_layers_names(load_sample, tmp_path):
    state = {
        f"{layer}.{k}": v for layer in "ab" for k, v in load_sample("torch_conv3x3").state.items()
    }
    found, report = import_state(state, tmp_path, kernel_size={"b": (1, 9)})
    assert found["a.weight"].shape == (6, 4, 3, 3)
    assert found["b.weight"].shape == (6, 4, 1, 9)
    notes = {layer.name: [note.split(":")[0] for note in layer.notes] for layer in report.layers}
    assert notes == {"a": ["taken as square"], "b": ["not square"]}


@pytest.mark.parametrize("root", ["", "model_weights/"])
def test_an_older_keras_file_notes_the_new_names_in_our_layers_order(root, load_sample, tmp_path):
    state = load_sample("tf_conv3x3").state
    names = ["first/kernel:0", "first/D:0", "first/bias:0"]
    with h5py.File(tmp_path / "in.h5", "w") as file:
        for name in names:
            file[f"{root}first/{name}"] = state[name[6:-2]]
        file[f"{root}first"].attrs["weight_names"] = [name.encode() for name in names]
        file.attrs["backend"] = "tensorflow"
    checkpoints.import_authors(tmp_path / "in.h5", tmp_path / "out.h5")
    with h5py.File(tmp_path / "out.h5") as file:
        assert file.attrs["backend"] == "tensorflow"
        noted = [name.decode() for name in file[f"{root}first"].attrs["weight_names"]]
        assert noted == ["first/kernel:0", "first/bias:0", "first/depthwise_delta:0"]
        assert sorted(file[f"{root}first/first"]) == [name[6:] for name in sorted(noted)]
        assert file[f"{root}first/first/kernel:0"].shape == (3, 3, 4, 6)
