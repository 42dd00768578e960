"""The fine-tuning examples, on few images, from weights of the person's own."""

import do_conv.gluon  # before mxnet, which reads names that this module restores

# isort: split
import runpy
from pathlib import Path

import cpu_torchvision  # noqa: F401  # before timm
import keras
import mxnet as mx
import pytest
import timm
import torch

import do_conv.tf
import do_conv.torch
from do_conv import DOConvError
from do_conv.zoo import import_gluoncv

EXAMPLES = Path(__file__).parents[2] / "examples" / "fine_tune"


def run(name, folder, weights):
    """Run an example on two batches.

    Returns the network it has converted, what it has trained, the images it has compared that on
    with the folded network, and the file it has written.
    """
    main, converted, compared = runpy.run_path(str(EXAMPLES / name))["main"], [], []
    convert, verify = (main.__globals__[one] for one in ("convert", "verify"))
    main.__globals__["convert"] = lambda plain: converted.append(plain) or convert(plain)
    main.__globals__["verify"] = lambda *given: compared.append(given) or verify(*given)
    out = folder / f"folded{''.join(weights.suffixes)}"
    options = ["--epochs", "1", "--steps", "2", "--weights", str(weights), "--out", str(out)]
    assert main(options) == 0
    assert sorted(folder.iterdir()) == sorted([weights, out])
    ((trained, _, images),) = compared
    return converted[0], trained, images, out


def assert_said(capsys, converted):
    said = capsys.readouterr().out
    assert f"{converted} convolutions" in said
    assert "epoch 1: test accuracy" in said
    assert "largest difference of 0.0e+00" in said


def test_torch(tmp_path, capsys):
    plain = timm.create_model("resnet18", num_classes=10, in_chans=1)
    torch.save(plain.state_dict(), tmp_path / "plain.pth")
    loaded, trained, images, out = run("torch_digits.py", tmp_path, tmp_path / "plain.pth")
    assert_said(capsys, "17 of 20")
    verify = do_conv.torch.verify
    assert verify(plain.eval(), loaded.eval(), images) == 0
    plain.load_state_dict(torch.load(out, weights_only=True))
    assert verify(trained, plain, images) == 0
    with pytest.raises(DOConvError, match="must give the same outputs"):
        verify(trained, loaded, images)


def test_keras(tmp_path, capsys):
    plain = keras.applications.MobileNet(
        weights=None, input_shape=(32, 32, 1), classes=10, classifier_activation=None
    )
    plain.save_weights(tmp_path / "plain.weights.h5")
    weights = tmp_path / "plain.weights.h5"
    loaded, trained, images, out = run("keras_digits.py", tmp_path, weights)
    assert_said(capsys, "14 of 28")
    verify = do_conv.tf.verify
    assert verify(plain, loaded, images) == 0
    plain.load_weights(out)
    assert verify(trained, plain, images) == 0
    with pytest.raises(DOConvError, match="must give the same outputs"):
        verify(trained, loaded, images)


def test_gluon(tmp_path, capsys):
    plain = import_gluoncv().get_model("cifar_resnet20_v1", pretrained=False, classes=10)
    plain.initialize(mx.init.Xavier())
    plain(mx.nd.zeros((1, 3, 32, 32)))
    mx.nd.waitall()
    plain.save_parameters(str(tmp_path / "plain.params"))
    loaded, trained, images, out = run("gluon_digits.py", tmp_path, tmp_path / "plain.params")
    assert_said(capsys, "19 of 21")
    verify = do_conv.gluon.verify
    assert verify(plain, loaded, images) == 0
    plain.load_parameters(str(out))
    assert verify(trained, plain, images) == 0
    with pytest.raises(DOConvError, match="must give the same outputs"):
        verify(trained, loaded, images)


def run_optimizer(name, wrapper, folder):
    """Run an example of the optimizer on two batches; what it has made, and the file."""
    main, made = runpy.run_path(str(EXAMPLES / name))["main"], []
    wrap = main.__globals__[wrapper]

    def remembered(*given, **options):
        made.append((given, options, wrap(*given, **options)))
        return made[-1][-1]

    main.__globals__[wrapper] = remembered
    out = folder / "plain.keras"
    assert main(["--epochs", "1", "--steps", "2", "--out", str(out)]) == 0
    assert list(folder.iterdir()) == [out]
    return *made, out


def test_torch_optimizer(tmp_path, capsys):
    """It writes what the example with layers writes, from the same start on the same batches."""
    ((_, network), _, optimizer), out = run_optimizer(
        "torch_optimizer.py", "DOConvOptimizer", tmp_path
    )
    said = capsys.readouterr().out
    assert "17 kernels are trained as W and D'" in said
    assert "epoch 1: test accuracy" in said
    moved = [kernel.delta.abs().max() > 0 for kernel in optimizer.kernels.values()]
    assert len(moved) == 17
    assert all(moved)
    layers = runpy.run_path(str(EXAMPLES / "torch_digits.py"))["main"]
    assert layers(["--epochs", "1", "--steps", "2", "--out", str(tmp_path / "folded")]) == 0
    written, folded = (torch.load(one, weights_only=True) for one in (out, tmp_path / "folded"))
    assert written.keys() == folded.keys() == network.state_dict().keys()
    for name, value in folded.items():
        torch.testing.assert_close(written[name], value, rtol=1e-4, atol=1e-5)


def test_keras_optimizer(tmp_path, capsys):
    ((_, network), _, optimizer), out = run_optimizer(
        "keras_optimizer.py", "DOConvOptimizer", tmp_path
    )
    said = capsys.readouterr().out
    assert "14 kernels were trained as W and D'" in said
    assert "epoch 1: test accuracy" in said
    moved = [
        abs(keras.ops.convert_to_numpy(kernel.delta)).max() > 0
        for kernel in optimizer.kernels.values()
    ]
    assert len(moved) == 14
    assert all(moved)
    plain = keras.models.load_model(out, compile=False)
    assert {type(layer).__module__.split(".")[0] for layer in plain.layers} == {"keras"}
    images = keras.random.normal((2, 32, 32, 3))
    assert do_conv.tf.verify(network, plain, images) == 0


def test_gluon_optimizer(tmp_path, capsys):
    (given, _, trainer), out = run_optimizer("gluon_optimizer.py", "DOConvTrainer", tmp_path)
    said = capsys.readouterr().out
    assert "19 kernels are trained as W and D'" in said
    assert "epoch 1: test accuracy" in said
    moved = [abs(one.delta.data()).max().asscalar() > 0 for one in trainer.kernels.values()]
    assert len(moved) == 19
    assert all(moved)
    plain = import_gluoncv().get_model("cifar_resnet20_v1", pretrained=False, classes=10)
    plain.load_parameters(str(out))
    images = mx.nd.random.normal(shape=(2, 3, 32, 32))
    assert do_conv.gluon.verify(given[0], plain, images) == 0


@pytest.mark.parametrize("name", ["torch_optimizer.py", "gluon_optimizer.py"])
def test_pretrained_weights_are_those_of_the_zoo(name, tmp_path):
    """They would be downloaded, so a zoo stands in that says whether it was asked for them."""
    main, asked = runpy.run_path(str(EXAMPLES / name))["main"], []

    class Zoo:
        def get_model(self, network, *, pretrained, **options):
            asked.append((network, pretrained))
            raise LookupError

        create_model = get_model

    for zoo in ("import_timm", "import_gluoncv"):
        main.__globals__[zoo] = Zoo
    for options in (["--pretrained"], []):
        with pytest.raises(LookupError):
            main(["--network", "a network", *options])
    assert asked == [("a network", True), ("a network", False)]


@pytest.mark.parametrize("name", ["torch_digits.py", "gluon_digits.py"])
def test_exception_an_output_that_cannot_be_written(tmp_path, name):
    main = runpy.run_path(str(EXAMPLES / name))["main"]
    with pytest.raises(DOConvError, match="an output path must be writable"):
        main(["--epochs", "0", "--out", str(tmp_path / "not there" / "folded.pth")])


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("--out", "digits.h5", "Keras's weight files end in .weights.h5; not so digits.h5"),
        ("--weights", "plain.keras", "Keras's weight files end in .weights.h5; not so plain.keras"),
        ("--network", "MobileNet9", "invalid choice: 'MobileNet9'"),
    ],
)
def test_exception_before_training(option, value, sentence, capsys):
    main = runpy.run_path(str(EXAMPLES / "keras_digits.py"))["main"]
    with pytest.raises(SystemExit):
        main([option, value])
    assert sentence in capsys.readouterr().err
