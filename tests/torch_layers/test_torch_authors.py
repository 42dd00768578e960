"""The layers with the authors' names and arguments, and their checkpoints in `load_state_dict`."""

import copy
import inspect
import json
import pickle
from pathlib import Path

import authors_networks as networks
import numpy as np
import pytest
import torch
from authors_networks import Edited, Theirs
from torch import nn
from torch.nn import functional

import do_conv.torch
from do_conv import DOConvError
from do_conv.torch import authors
from do_conv.torch.authors import edited

SAMPLES = sorted((Path(__file__).parents[1] / "data" / "authors").glob("torch_*.npz"))
# Groups of several outputs each, in which the authors' code takes the D of other groups.
REGROUPED = {
    "torch_group2", "torch_group2_dmul25", "torch_group4_of8_out16", "torch_depthwise_multiplier2",
}  # fmt: skip
FOLDED = "is folded in the authors' order, D' is zero"


def loaded(layer, state, *, is_told=False):
    """A layer after `load_state_dict`, which may warn of a folded layer."""
    if is_told:
        with pytest.warns(UserWarning, match=FOLDED):
            layer.load_state_dict(state)
    else:
        layer.load_state_dict(state)
    return layer


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_a_checkpoint_of_the_authors_gives_their_output(path):
    with np.load(path) as stored:
        arrays = {key: stored[key] for key in stored}
    config = json.loads(str(arrays["config"]))
    config = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}
    state = {k[6:]: torch.from_numpy(v) for k, v in arrays.items() if k.startswith("state/")}
    layer = authors.DOConv2d(**config, bias="bias" in state, dtype=torch.float64)
    loaded(layer, state, is_told=path.stem in REGROUPED)
    found = layer(torch.from_numpy(arrays["x"])).detach().numpy()
    np.testing.assert_allclose(found, arrays["y"], rtol=0, atol=1e-12 * abs(arrays["y"]).max())
    if path.stem not in REGROUPED and layer.depthwise_delta is not None:
        assert layer.depthwise_delta.any()


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_one_import_changes_and_the_checkpoint_loads(name):
    ours = networks.network(name)
    loaded(ours, networks.state_of(name), is_told=name == "dilated")
    networks.assert_their_output(ours, name)
    networks.assert_their_output(do_conv.torch.fold(ours), name)
    again = networks.network(name)
    again.load_state_dict(ours.state_dict())
    assert torch.equal(networks.output(again, name), networks.output(ours, name))


def test_a_network_of_the_edited_copys_plain_layers():
    ours = networks.network("restoration", edited.DOConv2d_eval)
    ours.load_state_dict(networks.state_of("restoration"))
    networks.assert_their_output(ours, "restoration")
    ours.load_state_dict(torch.load(networks.FOLDER / "restoration_folded.pth"))
    networks.assert_their_output(ours, "restoration_folded")
    assert not ours.entry.main[0].bias.any()


@pytest.mark.parametrize(("make", "rank"), [(authors.DOConv1d, 1), (authors.DOConv3d, 3)])
def test_copies_of_other_ranks(make, rank):
    """Their arrays are those of two axes; padding other than zeros begins with the last axis."""
    torch.manual_seed(0)
    area, padding = 2**rank, tuple(range(1, rank + 1))
    weight, depthwise = torch.randn(6, 4, area), torch.randn(4, area, area)
    layer = make(4, 6, 2, None, 1, padding, bias=False, padding_mode="circular")
    diagonal = torch.eye(area).repeat(4, 1, 1)
    layer.load_state_dict({"W": weight, "D": depthwise, "d_diag": diagonal})
    kernel = torch.einsum("ims,ois->oim", depthwise + diagonal, weight)
    kernel = kernel.reshape(6, 4, *(2,) * rank)
    x = torch.randn(1, 4, *(5,) * rank)
    padded = functional.pad(x, [side for side in padding for _ in range(2)], "circular")
    expected = getattr(functional, f"conv{rank}d")(padded, kernel)
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-4)
    assert layer.depthwise_delta.any()
    pointwise = make(4, 6, 1, bias=False)
    pointwise.load_state_dict({"W": weight[:, :, :1]})
    assert torch.equal(pointwise.weight.flatten(), weight[:, :, 0].flatten())


@pytest.mark.parametrize("theirs", [Theirs, Edited])
def test_a_diagonal_that_was_trained(theirs):
    layer = theirs(4, 6, 3, padding=1)
    nn.init.normal_(getattr(layer, theirs.DIAGONAL), std=0.3)
    ours = (authors if theirs is Theirs else edited).DOConv2d(4, 6, 3, padding=1)
    ours.load_state_dict(layer.state_dict())
    torch.testing.assert_close(ours.composed_weight(), layer.kernel(), rtol=1e-5, atol=1e-6)
    assert torch.equal(ours.weight.flatten(2), layer.W)


def test_a_checkpoint_of_fewer_slots_than_positions_is_folded():
    layer = Theirs(4, 6, 3, 4)
    nn.init.normal_(layer.d_diag)
    ours = authors.DOConv2d(4, 6, 3)
    with pytest.warns(UserWarning, match="its D_mul was below the number of kernel positions"):
        ours.load_state_dict(layer.state_dict())
    torch.testing.assert_close(ours.composed_weight(), layer.kernel(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays(dtype):
    layer = Theirs(4, 6, 3).to(dtype)
    ours = authors.DOConv2d(4, 6, 3, dtype=dtype)
    ours.load_state_dict(layer.state_dict())
    assert torch.equal(ours.weight.flatten(2), layer.W)
    delta = ours.depthwise_delta.flatten(2).mT
    assert torch.equal(delta, layer.D)


@pytest.mark.parametrize("mode", ["reflect", "circular", "replicate", "zeros"])
def test_unequal_padding_pads_the_axes_that_theirs_pads(mode):
    options = {"padding": (1, 2), "padding_mode": mode}
    theirs, ours = Theirs(4, 6, (3, 5), **options), authors.DOConv2d(4, 6, (3, 5), **options)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 4, 8, 9)
    for layer in (ours, ours.fold()):
        torch.testing.assert_close(layer(x), theirs(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(authors.DOConv2d, Theirs), (edited.DOConv2d, Edited), (edited.DOConv2d_eval, Edited)],
)
def test_the_arguments_are_theirs_in_their_order(ours, theirs):
    expected = inspect.signature(theirs).parameters
    found = dict(list(inspect.signature(ours).parameters.items())[: len(expected)])
    assert {name: one.default for name, one in found.items()} == {
        name: one.default for name, one in expected.items()
    }
    assert list(found) == list(expected)


@pytest.mark.parametrize("make", [authors.DOConv2d, edited.DOConv2d])
def test_it_is_a_layer_of_do_conv(make):
    layer = make(4, 6, 3, None, 2, 1)
    assert isinstance(layer, (do_conv.torch.DOConv2d, nn.Conv2d))
    assert (layer.stride, layer.spec.d_mul) == ((2, 2), 9)
    assert type(layer.fold()) is nn.Conv2d
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        x = torch.randn(1, 4, 8, 8)
        assert torch.equal(twin(x), layer(x))


def test_it_starts_as_do_conv_starts():
    torch.manual_seed(0)
    found = authors.DOConv2d(4, 6, 3, None, 2, 1)
    torch.manual_seed(0)
    expected = do_conv.torch.DOConv2d(4, 6, 3, 2, 1)
    for name, parameter in expected.named_parameters():
        assert torch.equal(dict(found.named_parameters())[name], parameter)


def test_the_plain_layer_of_the_edited_copy():
    """It reads its own `W` with four axes, and the trained layer's arrays."""
    layer = Edited(4, 6, groups=2)
    with torch.no_grad():
        kernel = layer.kernel()
    for state in ({"W": kernel}, layer.state_dict(), {"weight": kernel}):
        plain = edited.DOConv2d_eval(4, 6, groups=2)
        plain.load_state_dict(state)
        torch.testing.assert_close(plain.weight.detach(), kernel, rtol=1e-5, atol=1e-6)
    assert list(plain.state_dict()) == ["weight"]


@pytest.mark.parametrize("make", [edited.DOConv2d, edited.DOConv2d_eval])
def test_a_folded_and_a_pointwise_kernel(make):
    folded, pointwise = torch.randn(6, 4, 3, 3), torch.randn(6, 4, 1)
    layer = make(4, 6)
    layer.load_state_dict({"W": folded})
    assert torch.equal(layer.weight, folded)
    layer = make(4, 6, 1)
    layer.load_state_dict({"W": pointwise})
    assert torch.equal(layer.weight, pointwise[..., None])


def arrays(**changed):
    """A layer's arrays of 4 inputs and 6 outputs; None leaves one out."""
    stored = {**Theirs(4, 6, 3, bias=False).state_dict(), **changed}
    return {name: tensor for name, tensor in stored.items() if tensor is not None}


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (arrays(D=None), r"must be \['D', 'W', 'd_diag'\]; received \['W', 'd_diag'\]"),
        (arrays(D=None, d_diag=None), r"must be \['D', 'W'\]; received \['W'\]"),
        (arrays(D_diag=torch.zeros(4, 9, 9)), "received .*'D_diag'"),
        (arrays(D=torch.zeros(4, 25, 25)), r"'D' must have shape \(4, 9, 25\); received"),
        (arrays(W=torch.zeros(6, 4, 8)), "must fit each other"),
        (arrays(W=torch.zeros(7, 4, 9)), r"'weight' must have shape \(6, 4, 3, 3\)"),
        (arrays(W=torch.zeros(6, 4, 9, dtype=torch.int8)), "must be dense floating-point arrays"),
        (arrays(D=[0.0]), "must be dense floating-point .* received layer '' with D, a list"),
        ({"W": torch.zeros(6, 4, 5, 5)}, r"'weight' must have shape \(6, 4, 3, 3\)"),
        (arrays(extra=torch.zeros(3)), "Unexpected key"),
        ({}, "Missing key"),
    ],
)
def test_exception_arrays_that_do_not_fit(state, said):
    layer = authors.DOConv2d(4, 6, 3, bias=False)
    before = copy.deepcopy(layer.state_dict())
    with pytest.raises(RuntimeError, match=said):
        layer.load_state_dict(state)
    if "extra" not in state:
        assert all(torch.equal(before[name], one) for name, one in layer.state_dict().items())


@pytest.mark.parametrize(
    "make", [authors.DOConv2d, edited.DOConv2d, edited.DOConv2d_eval], ids=lambda one: one.__name__
)
def test_exception_a_stride_in_the_place_of_the_multiplier(make):
    with pytest.raises(DOConvError, match="received D_mul=2; give the stride by name"):
        make(3, 64, 3, 2, 1)
    make(3, 64, 1, 2, 1)  # a 1 x 1 kernel has no D


@pytest.mark.parametrize("make", [edited.DOConv2d, edited.DOConv2d_eval])
def test_exception_attention_on_the_kernel(make):
    with pytest.raises(DOConvError, match=r"simam, .* is no part of DO-Conv; received simam=True"):
        make(3, 8, simam=True)
    make(3, 8, simam=False)
