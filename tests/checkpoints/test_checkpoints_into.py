"""A checkpoint of the authors' layers in a network: of do_conv, plain, or with an optimizer."""

from pathlib import Path

import authors_networks as networks
import pytest
import torch
from authors_networks import Edited, Theirs
from torch import nn

from do_conv import DOConvError, checkpoints
from do_conv.cli import main
from do_conv.torch import DOConvOptimizer, convert
from do_conv.torch.authors import edited


def built(name, kind):
    """A network to load into."""
    return networks.network(name) if kind == "ours" else networks.plain_network(name)


@pytest.mark.parametrize("kind", ["ours", "plain"])
@pytest.mark.parametrize("name", networks.NETWORKS)
def test_a_network_of_either_kind(name, kind):
    """The files are those of wrapped networks, too, with other arrays beside the network's."""
    path, network = networks.FOLDER / networks.NETWORKS[name][1], built(name, kind)
    report = checkpoints.import_authors(network, path)
    networks.assert_their_output(network, name)
    assert [layer.name for layer in report.layers] == networks.LAYERS[name]
    assert (report.source, report.target) == (str(path), type(network).__name__)


@pytest.mark.parametrize("kind", ["ours", "plain"])
def test_a_folded_network(kind):
    network = built("restoration", kind)
    checkpoints.import_authors(network, networks.FOLDER / "restoration_folded.pth")
    networks.assert_their_output(network, "restoration_folded")


@pytest.mark.parametrize("kind", ["ours", "plain"])
def test_two_prefixes(kind, tmp_path):
    state = {f"model.module.{key}": one for key, one in networks.state_of("dilated").items()}
    torch.save({"state_dict": state}, tmp_path / "in.pth")
    network = built("dilated", kind)
    checkpoints.import_authors(network, tmp_path / "in.pth")
    networks.assert_their_output(network, "dilated")


def test_a_converted_network():
    network = convert(built("siamese", "plain"))
    checkpoints.import_authors(network, networks.FOLDER / "siamese.ckpt")
    networks.assert_their_output(network, "siamese")
    kernel = networks.state_of("siamese")["encoder.0.W"]
    assert torch.equal(network.encoder[0].weight.flatten(2), kernel)


def test_the_network_of_an_optimizer_takes_w_and_d():
    network = built("siamese", "plain")
    optimizer = DOConvOptimizer(torch.optim.SGD(network.parameters(), lr=0.1), network)
    checkpoints.import_authors(optimizer, networks.FOLDER / "siamese.ckpt")
    networks.assert_their_output(network, "siamese")
    layers, _ = optimizer.to_layers()
    kernel = networks.state_of("siamese")["encoder.0.W"]
    assert torch.equal(layers.encoder[0].weight.flatten(2), kernel)


@pytest.mark.parametrize("kind", ["ours", "plain"])
def test_a_layer_under_two_names(kind, tmp_path):
    """A state dict has it twice, and the network once."""
    state, network = networks.state_of("siamese"), built("siamese", kind)
    network.second_encoder, network.second_out = network.encoder, network.out
    state |= {f"second_{key}": one for key, one in state.items() if not key.startswith("head")}
    torch.save(state, tmp_path / "in.pth")
    report = checkpoints.import_authors(network, tmp_path / "in.pth")
    networks.assert_their_output(network, "siamese")
    assert [layer.name for layer in report.layers] == networks.LAYERS["siamese"]


@pytest.mark.parametrize("make", [edited.DOConv2d, networks.plain_edited])
def test_a_bare_layer(make, tmp_path):
    theirs, ours = Edited(4, 6), make(4, 6)
    torch.save(theirs.state_dict(), tmp_path / "in.pth")
    checkpoints.import_authors(ours, tmp_path / "in.pth")
    x = torch.randn(1, 4, 8, 8)
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-5)


def state_of(name="siamese", **changed):
    state = {**networks.state_of(name), **changed}
    return {key: tensor for key, tensor in state.items() if tensor is not None}


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        ({"a": state_of(), "b": state_of()}, {}, "must hold the network once; received .* with 2"),
        (
            state_of(extra=torch.ones(2)),
            {},
            r"received '\(the network itself\)' only in the file, none only",
        ),
        (
            {**state_of(), "second.W": state_of()["encoder.0.W"][:, :, :1].clone()},
            {},
            "received 'second' only in the file",
        ),
        (
            {**state_of(), "encoder.0.more": torch.ones(2)},
            {},
            "layer 'encoder.0' of the model must",
        ),
        ({"extra.W": torch.ones(2, 2, 1)}, {}, "'extra' only in the file, 'encoder.0', "),
        (state_of("text"), {}, "by name; received 'convs.0', 'convs.1', 'convs.2', 'embedding', "),
        (state_of(), {"kernel_size": (3, 3)}, "has its own kernel_size; received kernel_size="),
        (state_of(), {"strip_prefix": "module."}, "a prefix to strip must begin names"),
        ({"weight": torch.ones(2)}, {}, "must hold a layer of the original authors"),
        (
            {**state_of(), "encoder.0.D": torch.full((3, 9, 9), torch.nan)},
            {},
            "layer 'encoder.0' with NaN",
        ),
        (
            {**state_of(), "out.weight": torch.ones(3, 6, 1, 1)},
            {},
            r"the same arrays; received .*'weight': \(3, 6, 1, 1\)",
        ),
    ],
)
@pytest.mark.parametrize("kind", ["ours", "plain"])
def test_exception_a_file_that_does_not_fit(content, options, said, kind, tmp_path):
    torch.save(content, tmp_path / "in.pth")
    network = built("siamese", kind)
    before = networks.output(network, "siamese")
    with pytest.raises(DOConvError, match=said):
        checkpoints.import_authors(network, tmp_path / "in.pth", **options)
    assert torch.equal(networks.output(network, "siamese"), before)


@pytest.mark.parametrize("target", [nn.Conv2d(4, 6, 3), state_of()])
@pytest.mark.parametrize("source", ["in.pth", nn.Conv2d(4, 6, 3)])
def test_exception_no_path(source, target):
    with pytest.raises(DOConvError, match="give the network first, and then the path"):
        checkpoints.import_authors(source, target)


def test_exception_other_kernels(tmp_path):
    torch.save(Theirs(4, 6, 5).state_dict(), tmp_path / "in.pth")
    with pytest.raises(DOConvError, match="the same number of kernel positions; received 25 in"):
        checkpoints.import_authors(nn.Conv2d(4, 6, 3), tmp_path / "in.pth")


NETWORK = """
import sys
sys.path.insert(0, {support!r})
import authors_networks as networks

def ours():
    return networks.network("dilated")

def plain():
    return networks.plain_network("dilated")
"""


@pytest.fixture
def command(tmp_path, monkeypatch):
    """A function: `do-conv import` into a network, in a folder with the authors' checkpoint."""
    support = str(Path(networks.__file__).parent)
    state = {f"module.{key}": tensor for key, tensor in networks.state_of("dilated").items()}
    torch.save({"model": state}, tmp_path / "in.pth")
    # A module is imported once in a process.
    module = f"to_import_into_{abs(hash(tmp_path))}"
    (tmp_path / f"{module}.py").write_text(NETWORK.format(support=support))
    monkeypatch.chdir(tmp_path)
    return lambda kind, target: main(["import", "in.pth", target, "--into", f"{module}:{kind}"])


@pytest.mark.parametrize("kind", ["ours", "plain"])
def test_the_command(kind, command, capsys):
    assert command(kind, "out.pth") == 0
    assert "Imported 7 layers: in.pth -> out.pth" in capsys.readouterr().out
    network = built("dilated", kind)
    network.load_state_dict(torch.load("out.pth"), strict=True)
    networks.assert_their_output(network, "dilated")


def test_the_command_writes_a_neutral_file(command):
    assert command("ours", "out.safetensors") == 0
    network = built("dilated", "plain")
    checkpoints.load(network, "out.safetensors")
    networks.assert_their_output(network, "dilated")


def test_exception_the_command_writes_the_networks_own_files(command, capsys, tmp_path):
    assert command("ours", "out.params") == 2
    assert "unknown checkpoint format '.params'; " in capsys.readouterr().err
    assert not (tmp_path / "out.params").exists()
