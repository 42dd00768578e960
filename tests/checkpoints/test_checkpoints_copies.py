"""Checkpoints of public networks, which have copies of the authors' layer: edited, wrapped, folded.

`Copy` stores and computes what such a copy does.
"""

import h5py
import numpy as np
import pytest
import torch
from authors_networks import Edited as Copy
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from do_conv import DOConvError, checkpoints
from do_conv.torch import DOConv2d

SIDES, POINT = (3, 3), (1, 1)


class FoldedCopy(nn.Module):
    """Theirs for deployment: the kernel alone, which is still called W."""

    def __init__(self, layer):
        super().__init__()
        self.W = nn.Parameter(layer.kernel().detach().contiguous())
        self.padding, self.groups = layer.padding, layer.options["groups"]

    def forward(self, x):
        return functional.conv2d(x, self.W, padding=self.padding, groups=self.groups)


def network(conv, **options):
    """A network of their layers, or, with their defaults as options, of ours or PyTorch's."""
    torch.manual_seed(0)
    return nn.ModuleDict(
        {
            "entry": conv(4, 6, SIDES, padding=(1, 1), **options),
            "mix": conv(6, 6, SIDES, groups=2, padding=(1, 1), **options),
            "norm": nn.BatchNorm2d(6),
            "fuse": conv(6, 4, POINT, groups=2, padding=(0, 0), **options),
        }
    ).eval()


def ours(conv):
    return network(conv, bias=False)


def output(layers):
    x = torch.linspace(-1, 1, 2 * 4 * 8 * 9).reshape(2, 4, 8, 9)
    with torch.no_grad():
        for layer in layers.values():
            x = layer(x)
    return x


def assert_same_output(found, expected):
    assert abs(output(found) - output(expected)).max() <= 1e-5 * abs(output(expected)).max()


def wrapped(state, prefix):
    return {prefix + name: tensor for name, tensor in state.items()}


@pytest.mark.parametrize("place", ["state_dict", "model", None])
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module.model."])
@pytest.mark.parametrize("is_trained", [False, True], ids=["identity", "trained"])
def test_a_network_in_a_dictionary_behind_a_prefix(place, prefix, is_trained, tmp_path):
    theirs = network(Copy)
    if is_trained:
        for name in ("entry", "mix"):
            nn.init.normal_(theirs[name].D_diag, std=0.3)
    state = wrapped(theirs.state_dict(), prefix)
    moments = {"state": {0: {"exp_avg": torch.ones(3)}}}
    content = state if place is None else {"epoch": 3, place: state, "optimizer": moments}
    torch.save(content, tmp_path / "in.pth")
    strip_prefix = [prefix] if prefix else []
    report = checkpoints.import_authors(
        tmp_path / "in.pth", tmp_path / "out.pth", strip_prefix=strip_prefix
    )
    assert [layer.name for layer in report.layers] == ["entry", "mix", "fuse"]
    loaded = torch.load(tmp_path / "out.pth")
    model = ours(DOConv2d)
    model.load_state_dict(loaded if place is None else loaded[place], strict=True)
    assert_same_output(model, theirs)
    assert bool(model["entry"].depthwise_delta.any())
    assert any("D_diag" in note for note in report.layers[0].notes) == is_trained


@pytest.mark.parametrize("conv", [nn.Conv2d, DOConv2d])
@pytest.mark.parametrize(
    ("save", "load", "ending"),
    [(torch.save, torch.load, ".pth"), (save_file, load_file, ".safetensors")],
    ids=["pth", "safetensors"],
)
def test_a_folded_network_is_plain_under_another_name(conv, save, load, ending, tmp_path):
    theirs = network(Copy)
    for name in ("entry", "mix", "fuse"):
        theirs[name] = FoldedCopy(theirs[name])
    source, target = tmp_path / f"in{ending}", tmp_path / f"out{ending}"
    save(wrapped(theirs.state_dict(), "module."), source)
    report = checkpoints.import_authors(source, target, strip_prefix="module.")
    assert {layer.kind for layer in report.layers} == {"plain"}
    sizes = {layer.name: layer.kernel_size for layer in report.layers}
    assert sizes == {"entry": SIDES, "mix": SIDES, "fuse": POINT}
    model = ours(conv)
    model.load_state_dict(load(target), strict=True)
    assert_same_output(model, theirs)


def test_what_pytorch_notes_of_the_modules_is_renamed(tmp_path):
    """A batch normalization without its version is taken for an old one, which has no count."""
    torch.save(nn.DataParallel(network(Copy)).state_dict(), tmp_path / "in.pth")
    checkpoints.import_authors(tmp_path / "in.pth", tmp_path / "out.pth", strip_prefix="module.")
    noted = torch.load(tmp_path / "out.pth")._metadata
    assert noted == network(Copy).state_dict()._metadata


def import_arrays(folder, arrays, **options):
    np.savez(folder / "in.npz", **arrays)
    report = checkpoints.import_authors(folder / "in.npz", folder / "out.npz", **options)
    return dict(np.load(folder / "out.npz")), report


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"a.W": (6, 2, 1), "a.bias": (6,)}, {"a.weight": (6, 2, 1, 1), "a.bias": (6,)}),
        ({"W": (6, 2, 1)}, {"weight": (6, 2, 1, 1)}),
        ({"a/kernel": (1, 2, 6)}, {"a/kernel": (1, 1, 2, 6)}),
    ],
)
def test_pointwise_layers_alone(arrays, expected, tmp_path):
    rng = np.random.default_rng(0)
    given = {name: rng.standard_normal(shape) for name, shape in arrays.items()}
    found, report = import_arrays(tmp_path, given)
    assert {name: array.shape for name, array in found.items()} == expected
    for before, after in zip(given.values(), found.values(), strict=True):
        np.testing.assert_array_equal(after.reshape(before.shape), before)
    assert [layer.kind for layer in report.layers] == ["plain"]
    assert list(report.notes) == ["without a D: taken as the authors' layer with a 1 x 1 kernel"]


@pytest.mark.parametrize(("before", "is_theirs"), [("", True), ("attention.", False)])
def test_a_w_among_other_arrays(before, is_theirs, tmp_path):
    """A bare layer stands beside anything; arrays behind one prefix are of one layer."""
    arrays = {"W": np.ones((6, 4, 1)), "a": np.ones((6, 1)), "b": np.ones(6)}
    given = {f"{before}{name}": array for name, array in arrays.items()}
    found, _ = import_arrays(tmp_path, {**given, "first.W": np.ones((2, 2, 1))})
    name, shape = ("weight", (6, 4, 1, 1)) if is_theirs else ("W", (6, 4, 1))
    assert found[f"{before}{name}"].shape == shape
    assert len(found) == 4


@pytest.mark.usefixtures("one_reader")
@pytest.mark.parametrize(
    ("group", "shapes", "is_theirs"),
    [
        ("layers/do_conv2d/vars", [(1, 4, 6)], True),
        ("layers/do_conv2d_3/vars", [(1, 4, 6), (6,)], True),
        ("mix/vars", [(1, 4, 6), (6,)], True),
        ("layers/conv1d/vars", [(1, 4, 6), (6,)], False),  # a plain convolution of one axis
        ("layers/do_conv1d/vars", [(1, 4, 6), (6,)], False),  # and ours
        ("position/vars", [(1, 4, 6)], False),  # such as an embedding
        ("mix/vars", [(1, 4, 6), (4,)], False),
    ],
)
def test_pointwise_layers_among_keras_counts(group, shapes, is_theirs, tmp_path):
    with h5py.File(tmp_path / "in.weights.h5", "w") as file:
        for count, shape in enumerate([(9, 3, 4), (9, 9, 3)]):
            file[f"layers/do_conv2d_9/vars/{count}"] = np.ones(shape)
        for count, shape in enumerate(shapes):
            file[f"{group}/{count}"] = np.ones(shape)
    checkpoints.import_authors(tmp_path / "in.weights.h5", tmp_path / "out.weights.h5")
    with h5py.File(tmp_path / "out.weights.h5") as file:
        assert file[f"{group}/0"].shape == ((1, 1, 4, 6) if is_theirs else (1, 4, 6))


@pytest.mark.parametrize("name", ["conv1d", "body/conv1d_2", "separable_conv1d"])
def test_exception_a_plain_keras_convolution_of_one_axis(name, tmp_path, refused):
    state, command = {f"{name}/kernel": np.ones((1, 4, 6))}, checkpoints.import_authors
    assert "must hold a layer of the original" in refused(
        tmp_path, state, ending=".npz", command=command
    )


ORDER = "not square: with a padding_mode other than zeros"


@pytest.mark.parametrize("mode", ["reflect", "circular", "zeros"])
def test_a_padding_mode_pads_the_axes_in_the_other_order(mode, tmp_path):
    """Theirs with padding (1, 2) is ours with (2, 1), unless the padding is of zeros."""
    torch.manual_seed(0)
    theirs = Copy(4, 6, (3, 5), padding=(1, 2), padding_mode=mode)
    torch.save(theirs.state_dict(), tmp_path / "in.pth")
    report = checkpoints.import_authors(
        tmp_path / "in.pth", tmp_path / "out.pth", kernel_size=(3, 5)
    )
    assert any(note.startswith(ORDER) for note in report.notes)
    padding = (1, 2) if mode == "zeros" else (2, 1)
    layer = DOConv2d(4, 6, (3, 5), padding=padding, padding_mode=mode, bias=False)
    layer.load_state_dict(torch.load(tmp_path / "out.pth"))
    x = torch.randn(2, 4, 8, 9)
    torch.testing.assert_close(layer(x), theirs(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("arrays", "is_told"),
    [
        ({"W": (6, 4, 15), "D": (4, 15, 15)}, True),
        ({"W": (6, 4, 3, 5)}, True),
        ({"W": (6, 4, 3, 3)}, False),
        ({"W": (6, 4, 9), "D": (4, 9, 9)}, False),
        ({"W": (6, 4, 1)}, False),
    ],
)
def test_the_order_of_padding_is_told_where_it_can_matter(arrays, is_told, tmp_path):
    given = {name: np.ones(shape) for name, shape in arrays.items()}
    sides = {"": (3, 5)} if "D" in given and is_told else None
    _, report = import_arrays(tmp_path, given, kernel_size=sides)
    assert any(note.startswith(ORDER) for note in report.notes) == is_told


def test_the_order_of_padding_is_the_same_in_tensorflow_which_pads_with_zeros_alone(tmp_path):
    given = {"kernel": np.ones((15, 4, 6)), "D": np.ones((15, 15, 4))}
    _, report = import_arrays(tmp_path, given, kernel_size=(3, 5))
    assert not report.notes


def test_a_kernel_size_is_by_the_name_without_the_prefix(tmp_path):
    arrays = {"module.a.W": np.ones((6, 4, 9)), "module.a.D": np.ones((4, 9, 9))}
    found, _ = import_arrays(tmp_path, arrays, strip_prefix=["module."], kernel_size={"a": (1, 9)})
    assert found["a.weight"].shape == (6, 4, 1, 9)


THEIRS = {"module.a.W": np.ones((6, 4, 1)), "b": np.ones(3), "module.b": np.ones(3)}


@pytest.mark.parametrize(
    ("prefix", "ending", "said"),
    [
        ("model.", ".npz", "received 'model.', with which no name begins; give what stands before "
         "the network's own names, as in module.a.W, b."),
        ("", ".npz", "received '', with which no name begins"),
        ("module.", ".npz", "received 'module.', which leaves 'b' twice"),
    ],
)  # fmt: skip
def test_exception_a_prefix_that_cannot_be_stripped(prefix, ending, said, tmp_path, refused):
    command = checkpoints.import_authors
    assert said in refused(tmp_path, THEIRS, ending=ending, command=command, strip_prefix=[prefix])


@pytest.mark.usefixtures("one_reader")
@pytest.mark.parametrize("ending", [".h5", ".weights.h5"])
def test_exception_a_keras_file_has_no_prefix(ending, tmp_path):
    with h5py.File(tmp_path / f"in{ending}", "w") as file:
        file["first/kernel"] = np.ones((1, 4, 6))
    with pytest.raises(DOConvError, match=r"not from a Keras file's groups; received in\."):
        checkpoints.import_authors(
            tmp_path / f"in{ending}", tmp_path / f"out{ending}", strip_prefix="first/"
        )
