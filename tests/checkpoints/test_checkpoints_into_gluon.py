"""A Gluon checkpoint of the authors' layers in a network."""

import inspect

import numpy as np
import pytest

pytest.importorskip("do_conv.gluon")

import mxnet as mx
from mxnet.gluon import nn

from do_conv import DOConvError, checkpoints
from do_conv.cli import main
from do_conv.gluon import DOConvTrainer
from do_conv.gluon.authors import DOConv2D


def plain(in_channels, channels, kernel_size, **options):
    return nn.Conv2D(channels, kernel_size, in_channels=in_channels, **options)


def network(make, config, *, use_bias):
    """The layer of a sample between two batch normalizations, then slopes."""
    config = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}
    config.pop("D_mul")
    net = nn.HybridSequential()
    net.add(nn.BatchNorm(in_channels=config["in_channels"]))
    net.add(make(**config, use_bias=use_bias))
    net.add(nn.BatchNorm(in_channels=config["channels"]))
    net.add(nn.PReLU(in_channels=config["channels"]))
    net.initialize()
    return net


@pytest.mark.parametrize("make", [DOConv2D, plain])
@pytest.mark.parametrize(
    "name",
    ["gluon_conv3x3", "gluon_conv3x3_nobias", "gluon_conv_3x5", "gluon_group4_of8_out16",
     "gluon_pointwise"],
)  # fmt: skip
def test_a_network_of_either_kind(name, make, load_sample, tmp_path):
    sample = load_sample(name)
    options = {"use_bias": "bias" in sample.state}
    others = network(plain, sample.config, **options)
    others.save_parameters(str(tmp_path / "others.params"))
    stored = mx.nd.load(str(tmp_path / "others.params"))
    stored = {key: array for key, array in stored.items() if not key.startswith("1.")}
    stored["0.running_mean"] = mx.nd.ones_like(stored["0.running_mean"])
    stored["2.gamma"], stored["2.beta"] = 2 + stored["2.gamma"], 5 + stored["2.beta"]
    stored["3.alpha"] = mx.nd.ones_like(stored["3.alpha"])
    theirs = {f"1.{key}": mx.nd.array(v, dtype=v.dtype) for key, v in sample.state.items()}
    mx.nd.save(str(tmp_path / "in.params"), {**stored, **theirs})
    net = network(make, sample.config, **options)
    # A plain layer of 1 x 1 is stored under its own names; then nothing is the authors'.
    if name == "gluon_pointwise":
        with pytest.raises(ValueError, match="must hold a layer of the original authors"):
            checkpoints.import_authors(net, tmp_path / "in.params")
        return
    checkpoints.import_authors(net, tmp_path / "in.params")
    sample.assert_same_output(net[1](mx.nd.array(sample.x)).asnumpy())
    np.testing.assert_array_equal(net[0].running_mean.data().asnumpy(), 1)
    np.testing.assert_array_equal(net[3].alpha.data().asnumpy(), 1)
    np.testing.assert_array_equal(net[2].gamma.data().asnumpy(), 3)
    np.testing.assert_array_equal(net[2].beta.data().asnumpy(), 5)


def test_the_arguments_are_theirs_in_their_order():
    parameters = inspect.signature(DOConv2D).parameters
    assert list(parameters)[:13] == [
        "in_channels", "channels", "kernel_size", "strides", "padding", "dilation", "groups",
        "layout", "activation", "use_bias", "weight_initializer", "bias_initializer",
        "do_conv_dtype",
    ]  # fmt: skip
    layer = DOConv2D(4, 6, 3, 2, 1)
    assert (layer._kwargs["stride"], layer._kwargs["num_filter"]) == ((2, 2), 6)


def test_the_network_of_a_trainer_takes_w_and_d(load_sample, tmp_path):
    sample = load_sample("gluon_conv3x3_nobias")
    arrays = {f"0.{key}": mx.nd.array(v, dtype=v.dtype) for key, v in sample.state.items()}
    mx.nd.save(str(tmp_path / "in.params"), arrays)
    net = nn.HybridSequential()
    net.add(nn.Conv2D(6, 3, use_bias=False, in_channels=4))
    net.initialize()
    trainer = DOConvTrainer(net, "sgd")
    checkpoints.import_authors(trainer, tmp_path / "in.params")
    sample.assert_same_output(net(mx.nd.array(sample.x)).asnumpy())
    layers, _ = trainer.to_layers()
    np.testing.assert_array_equal(layers[0].weight.data().asnumpy(), sample.state["weight"])


@pytest.mark.parametrize("make", [DOConv2D, plain])
def test_exception_other_arrays(make, load_sample, tmp_path):
    """They have Gluon's names."""
    sample = load_sample("gluon_conv3x3")
    arrays = {f"1.{key}": mx.nd.array(v, dtype=v.dtype) for key, v in sample.state.items()}
    net = network(make, sample.config, use_bias=True)
    mx.nd.waitall()
    net.save_parameters(str(tmp_path / "own.params"))
    own = mx.nd.load(str(tmp_path / "own.params"))
    others = {key: array for key, array in own.items() if not key.startswith("1.")}

    def refused(**changed):
        stored = {**others, **arrays, **changed}
        mx.nd.save(str(tmp_path / "in.params"), {k: v for k, v in stored.items() if v is not None})
        with pytest.raises(DOConvError) as error:
            checkpoints.import_authors(net, tmp_path / "in.params")
        return str(error.value)

    said = refused(**{"2.gamma": mx.nd.ones(7)})
    assert "received {'gamma': (7,), 'beta': (6,), 'running_mean': (6,), 'running_var'" in said
    assert "in the file, {'gamma': (6,), 'beta': (6,), 'running_mean': (6,), 'running_v" in said
    assert "received {'alpha': (7,)} in the file, {'alpha'" in refused(**{"3.alpha": mx.nd.ones(7)})
    said = refused(**{"1.weight": mx.nd.ones((8, 4, 3, 3)), "1.bias": mx.nd.ones(8)})
    assert "received {'weight': (8, 4, 3, 3)" in said
    said = refused(**{"1.bias": mx.nd.ones(7)})
    assert "layer '1' with 1.weight (6, 4, 3, 3), 1.D (9, 9, 4), 1.bias (7,)" in said


NETWORK = """
from mxnet.gluon import nn
from do_conv.gluon.authors import DOConv2D

def ours():
    return made(DOConv2D(4, 6, 3, use_bias=False))

def plain():
    return made(nn.Conv2D(6, 3, use_bias=False, in_channels=4))

def made(layer):
    net = nn.HybridSequential()
    net.add(layer)
    net.initialize()
    return net
"""


@pytest.mark.parametrize("kind", ["ours", "plain"])
def test_the_command(kind, load_sample, tmp_path, monkeypatch, capsys):
    sample = load_sample("gluon_conv3x3_nobias")
    arrays = {f"0.{key}": mx.nd.array(v, dtype=v.dtype) for key, v in sample.state.items()}
    mx.nd.save(str(tmp_path / "in.params"), arrays)
    module = f"gluon_to_import_into_{kind}_{abs(hash(tmp_path))}"
    (tmp_path / f"{module}.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    into = ["--into", f"{module}:{kind}"]
    assert main(["import", "in.params", "out.params", *into]) == 0
    assert "Imported 1 layer: in.params -> out.params" in capsys.readouterr().out
    config = {k: tuple(v) if isinstance(v, list) else v for k, v in sample.config.items()}
    config.pop("D_mul")
    net = nn.HybridSequential()
    net.add((DOConv2D if kind == "ours" else plain)(**config, use_bias=False))
    net.load_parameters("out.params")
    sample.assert_same_output(net(mx.nd.array(sample.x)).asnumpy())
    assert main(["import", "in.params", "out.pth", *into]) == 2
    assert "unknown checkpoint format '.pth'" in capsys.readouterr().err
    assert main(["import", "in.params", "out.safetensors", *into]) == 0
