"""`do-conv heatmap`: what D did to each kernel, from any checkpoint."""

import json
import pickle
import zipfile

import keras
import numpy as np
import pytest
import torch
from torch import nn

from do_conv import checkpoints, cli, tf
from do_conv.core import layouts
from do_conv.core.composition import kernel_change
from do_conv.torch import DepthwiseSeparableConv2d, DOConv1d, DOConv2d, DOConvOptimizer


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(
        DOConv2d(4, 6, 3, groups=2, d_mul=20, depthwise_init="he"),
        DOConv1d(6, 4, 5),
        DepthwiseSeparableConv2d(4, 4, 3),
        nn.Conv2d(4, 4, 3),
    )


def expected(layer):
    """The absolute change of each position, the mean over channels, as shares of the largest."""
    with torch.no_grad():
        weight = layer.weight.double().reshape(layer.out_channels, -1, layer.spec.d_mul)
        area, blocks = layer.spec.area, layer.spec.whole_blocks
        plain = sum(weight[:, :, i * area : (i + 1) * area] for i in range(blocks))
        composed = layer.double().composed_weight().reshape(plain.shape)
        change = (composed - plain).abs().mean((0, 1)).reshape(layer.kernel_size)
    return (change / (change.max() or 1)).numpy()


@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_the_numbers(model, ending, tmp_path, capsys):
    path = tmp_path / f"model{ending}"
    if ending == ".pt":
        torch.save({"epoch": 1, "model": model.state_dict()}, path)
    else:
        checkpoints.save(model, path)
    assert cli.main(["heatmap", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["0", "1"]  # a separable layer has no kernel without its D
    np.testing.assert_allclose(found["0"], expected(model[0]), rtol=1e-6)
    assert found["1"] == [0.0] * 5  # the identity


def test_the_picture(model, tmp_path, capsys):
    torch.save(model.state_dict(), tmp_path / "model.pt")
    arguments = ["heatmap", str(tmp_path / "model.pt"), str(tmp_path / "heatmap.png")]
    assert cli.main(arguments) == 0
    assert capsys.readouterr().out.startswith("Drew 2 layers: ")
    assert (tmp_path / "heatmap.png").read_bytes().startswith(b"\x89PNG")


def test_a_table_for_a_person(model, tmp_path, capsys):
    torch.save(model[1].state_dict(), tmp_path / "model.pt")
    assert cli.main(["heatmap", str(tmp_path / "model.pt")]) == 0
    assert capsys.readouterr().out == "(the one layer)\n  0.00 0.00 0.00 0.00 0.00\n"


def test_a_wide_kernel_goes_on_in_the_next_line(tmp_path, capsys):
    torch.save(DOConv2d(1, 1, (2, 40)).state_dict(), tmp_path / "model.pt")
    assert cli.main(["heatmap", str(tmp_path / "model.pt")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(line.count("0.00") for line in lines) == 80
    assert [len(line) - len(line.lstrip()) for line in lines[1:]] == [2, 4, 4, 2, 4, 4]


def test_only_where_d_differs():
    weight, delta = np.ones((2, 1, 9)), np.zeros((1, 9, 3, 3))
    delta[0, 4, 2, 1] = -0.5  # position (2, 1) of the kernel
    change = kernel_change(weight, delta)
    assert change[2, 1] == 1
    assert change.sum() == 1


def test_exception_no_layer_of_ours(tmp_path, capsys):
    torch.save(nn.Conv2d(4, 6, 3).state_dict(), tmp_path / "model.pt")
    assert cli.main(["heatmap", str(tmp_path / "model.pt")]) == 2
    said = capsys.readouterr().err
    assert "a checkpoint to draw must hold W and D' of do_conv" in said
    assert "fold must" not in said


def test_exception_another_ending(model, tmp_path, capsys):
    torch.save(model.state_dict(), tmp_path / "model.pt")
    arguments = ["heatmap", str(tmp_path / "model.pt"), str(tmp_path / "heatmap.txt")]
    assert cli.main(arguments) == 2
    assert "unknown picture format '.txt'; choose from .png, .svg, .pdf." in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


def optimized(named):
    """A plain network and its optimizer, after a step from a start that is drawn."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Conv2d(4, 4, 3, groups=2))
    parameters = model.named_parameters() if named else model.parameters()
    inner = torch.optim.SGD(parameters, 0.1, momentum=0.9)
    optimizer = DOConvOptimizer(inner, model, depthwise_init="he")
    model(torch.randn(2, 3, 8, 8)).square().mean().backward()
    optimizer.step()
    return model, optimizer


def drawn(path, capsys):
    assert cli.main(["heatmap", str(path), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("named", "names"), [(True, ["0", "2"]), (False, ["parameter 0", "parameter 2"])]
)
def test_the_state_of_an_optimizer(named, names, tmp_path, capsys):
    """By the names of layers, if the optimizer has them; otherwise by the number of a parameter."""
    model, optimizer = optimized(named)
    whole = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(whole, tmp_path / "training.pt")
    found = drawn(tmp_path / "training.pt", capsys)
    converted, _ = optimizer.to_layers()
    assert list(found) == names
    for name, layer in zip(names, (converted[0], converted[2]), strict=True):
        np.testing.assert_allclose(found[name], expected(layer), rtol=1e-5)


def test_an_optimizer_has_nothing_to_fold(tmp_path, capsys):
    """Its network is plain, and its W and D' stay."""
    model, optimizer = optimized(named=False)
    whole = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(whole, tmp_path / "training.pt")
    assert cli.main(["fold", str(tmp_path / "training.pt"), str(tmp_path / "plain.pt")]) == 2
    assert "use it as it is" in capsys.readouterr().err
    assert not (tmp_path / "plain.pt").exists()


def test_the_states_of_a_gluon_trainer(tmp_path, capsys):
    import do_conv.gluon  # before mxnet

    # isort: split
    import mxnet as mx
    from mxnet.gluon import nn as gluon_nn

    net = gluon_nn.HybridSequential()
    net.add(gluon_nn.Conv2D(4, 3, in_channels=3), gluon_nn.Conv2D(4, 3, groups=2, in_channels=4))
    net.initialize()
    schedule = mx.lr_scheduler.CosineScheduler(10, base_lr=0.1)
    options = {"momentum": 0.9, "lr_scheduler": schedule}
    trainer = do_conv.gluon.DOConvTrainer(net, "sgd", options, depthwise_init="he")
    with mx.autograd.record():
        loss = net(mx.nd.random.normal(shape=(2, 3, 8, 8))).square().mean()
    loss.backward()
    trainer.step(2)
    trainer.save_states(str(tmp_path / "training.states"))
    found = drawn(tmp_path / "training.states", capsys)
    assert list(found) == ["0", "1"]
    for name, kernel in trainer.kernels.items():
        weight, delta = (part.data().asnumpy().astype("float64") for _, part in kernel.parts)
        change = kernel_change(weight, delta, kernel.spec.groups)
        np.testing.assert_allclose(found[name], change, rtol=1e-6)


def keras_model(around=lambda optimizer: optimizer):
    """A plain model and its optimizer, which is built, from a start that is drawn."""
    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Conv2D(4, 3, groups=2, name="conv"),
        keras.layers.DepthwiseConv2D(2, name="depthwise"),
        keras.layers.Conv2DTranspose(3, 2, name="up"),
    ]
    model = keras.Sequential([keras.Input((8, 8, 4)), *layers])
    inner = keras.optimizers.Adam(0.1)
    optimizer = tf.DOConvOptimizer(inner, model, depthwise_init="he", d_mul=lambda s: s.area + 1)
    model.compile(around(optimizer), "mse")
    model.optimizer.build(model.trainable_variables)
    return model, optimizer


def assert_changes(found, names, optimizer):
    assert list(found) == names
    to_core = layouts.kernel_from_keras, layouts.delta_from_keras
    for name, kernel in zip(names, optimizer.kernels.values(), strict=True):
        arrays = [keras.ops.convert_to_numpy(part).astype("float64") for part in kernel.parts]
        weight, delta = (of(array) for of, array in zip(to_core, arrays, strict=True))
        change = kernel_change(weight, delta, len(delta) // weight.shape[1])
        np.testing.assert_allclose(found[name], change, rtol=1e-6)


@pytest.mark.parametrize("around", [lambda one: one, keras.optimizers.LossScaleOptimizer])
def test_a_keras_file_with_an_optimizer(around, tmp_path, capsys):
    """A file of weights has no names of layers; a whole model has them in its configuration."""
    model, optimizer = keras_model(around)
    model.save_weights(tmp_path / "training.weights.h5")
    model.save(tmp_path / "training.keras")
    numbered = [f"kernel {number}" for number in range(3)]
    assert_changes(drawn(tmp_path / "training.weights.h5", capsys), numbered, optimizer)
    assert_changes(drawn(tmp_path / "training.keras", capsys), list(optimizer.kernels), optimizer)
    assert list(optimizer.kernels) == ["conv", "depthwise", "up"]


def test_a_keras_optimizer_in_a_neutral_file(tmp_path, capsys):
    _, optimizer = keras_model()
    checkpoints.save(optimizer, tmp_path / "training.safetensors")
    found = drawn(tmp_path / "training.safetensors", capsys)
    assert_changes(found, list(optimizer.kernels), optimizer)


def test_a_keras_model_with_layers(tmp_path, capsys):
    conv = tf.DOConv2D(4, 3, depthwise_init="he")
    model = keras.Sequential([keras.Input((8, 8, 3)), conv])
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    model.optimizer.build(model.trainable_variables)
    for path in (tmp_path / "model.weights.h5", tmp_path / "model.keras"):
        model.save_weights(path) if path.name.endswith(".h5") else model.save(path)
        assert list(drawn(path, capsys)) == ["layers/do_conv2d"]


@pytest.mark.parametrize(
    ("members", "said"),
    [
        (None, "File is not a zip file"),
        ({"config.json": b"{}"}, "There is no item named 'model.weights.h5'"),
        ({"config.json": b"{", "model.weights.h5": b""}, "Expecting property name"),
        ({"config.json": b"{}", "model.weights.h5": b"no HDF5"}, "signature"),
        ({"config.json": b"{}", "model.weights.h5": bytes(10**7)}, "larger than what is stored"),
    ],
)
def test_exception_a_damaged_keras_archive(members, said, tmp_path, capsys):
    path = tmp_path / "bad.keras"
    path.write_bytes(b"no archive")
    if members is not None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
    assert cli.main(["heatmap", str(path)]) == 2
    error = capsys.readouterr().err
    assert "must be a whole Keras archive file" in error
    assert said in error


class Harmful:
    """A pickle of it writes a file when it is loaded by `pickle.loads`."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_states_run_no_code(tmp_path, capsys):
    touched = tmp_path / "touched"
    (tmp_path / "bad.states").write_bytes(pickle.dumps(({0: Harmful(touched)}, None)))
    assert cli.main(["heatmap", str(tmp_path / "bad.states")]) == 2
    assert "must hold W and D'" in capsys.readouterr().err
    assert not touched.exists()
    (tmp_path / "bad.states").write_bytes(b"no pickle")
    assert cli.main(["heatmap", str(tmp_path / "bad.states")]) == 2
    assert "must be a whole Gluon trainer's states file" in capsys.readouterr().err


def test_exception_a_kernel_that_is_not_finite(tmp_path, capsys):
    layer = DOConv2d(4, 6, 3)
    torch.nn.init.constant_(layer.weight, torch.nan)
    torch.save(layer.state_dict(), tmp_path / "model.pt")
    assert cli.main(["heatmap", str(tmp_path / "model.pt")]) == 2
    said = capsys.readouterr().err
    assert "must be finite to be drawn" in said
    assert "check" not in said  # there is no such option here
