"""W and D' go from an optimizer to layers and to other optimizers, in any framework."""

import do_conv.gluon  # noqa: F401 - before mxnet, which reads names that this module restores

# isort: split
import keras
import mxnet as mx
import numpy as np
import pytest
import torch
from mxnet.gluon import nn as gluon_nn
from torch import nn

from do_conv import DOConvError, checkpoints, tf
from do_conv.core import layouts
from do_conv.gluon import DOConvTrainer
from do_conv.torch import DOConvOptimizer, convert, fold

# Keras's normalization computes in float32 on its other backends.
ATOL = 1e-12 if keras.backend.backend() == "tensorflow" else 1e-6
X = np.random.default_rng(0).normal(size=(2, 3, 9, 9))


def torch_network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.ReLU(),
        nn.Conv2d(4, 6, 3, groups=2),
    ).double().eval()  # fmt: skip


def torch_optimizer(**options):
    model = torch_network()
    return DOConvOptimizer(torch.optim.SGD(model.parameters(), 0.1), model, **options)


def gluon_trainer():
    net = gluon_nn.HybridSequential()
    net.add(
        gluon_nn.Conv2D(4, 3, in_channels=3), gluon_nn.BatchNorm(in_channels=4),
        gluon_nn.Conv2D(4, 1, in_channels=4), gluon_nn.Activation("relu"),
        gluon_nn.Conv2D(6, 3, groups=2, in_channels=4),
    )  # fmt: skip
    net.cast("float64")
    net.initialize()
    return DOConvTrainer(net, "sgd", {"learning_rate": 0.1})


def keras_optimizer(**options):
    def of(kind, *given, **more):
        return getattr(keras.layers, kind)(*given, dtype="float64", **more)

    layers = [
        of("Conv2D", 4, 3, name="0"), of("BatchNormalization", epsilon=1e-5, name="1"),
        of("Conv2D", 4, 1, name="2"), of("ReLU"), of("Conv2D", 6, 3, groups=2, name="4"),
    ]  # fmt: skip
    model = keras.Sequential([keras.Input((9, 9, 3), dtype="float64"), *layers])
    optimizer = tf.DOConvOptimizer(keras.optimizers.SGD(0.1), model, **options)
    optimizer.build(model.trainable_variables)
    return optimizer


def output(trained):
    if isinstance(trained, tf.DOConvOptimizer):
        found = keras.ops.convert_to_tensor(layouts.channels_last(X), "float64")
        for layer in trained.trained_model().layers:  # the model itself would cast to float32
            found = layer(found)
        return layouts.channels_first(keras.ops.convert_to_numpy(found))
    if isinstance(trained, DOConvTrainer):
        return trained.net(mx.nd.array(X, dtype="float64")).asnumpy()
    model = trained.model if isinstance(trained, DOConvOptimizer) else trained
    return model(torch.from_numpy(X)).detach().numpy()


def parts(trained):
    """W and D' of each kernel."""
    if isinstance(trained, tf.DOConvOptimizer):
        back = layouts.kernel_from_keras, layouts.delta_from_keras
        return [
            to_core(keras.ops.convert_to_numpy(part))
            for kernel in trained.kernels.values()
            for part, to_core in zip(kernel.parts, back, strict=True)
        ]
    if isinstance(trained, DOConvTrainer):
        kernels = trained.kernels.values()
        return [part.data().asnumpy() for kernel in kernels for _, part in kernel.parts]
    if isinstance(trained, DOConvOptimizer):
        trained = trained.to_layers()[0]
    names = ("0.weight", "0.depthwise_delta", "4.weight", "4.depthwise_delta")
    return [trained.get_parameter(name).detach().numpy() for name in names]


TARGETS = {
    "an optimizer": torch_optimizer,
    "a Keras optimizer": keras_optimizer,
    "a trainer": gluon_trainer,
    "layers": lambda: convert(torch_network()),
}


@pytest.mark.parametrize("target", TARGETS)
def test_w_and_d_go_from_an_optimizer_and_back(target, tmp_path):
    path, between, again = tmp_path / "one.safetensors", TARGETS[target](), torch_optimizer()
    source = torch_optimizer(depthwise_init="he")
    for one, other in ((source, between), (between, again)):
        checkpoints.save(one, path)
        checkpoints.load(other, path)
        for found, expected in zip(parts(other), parts(source), strict=True):
            np.testing.assert_array_equal(found, expected)
        np.testing.assert_allclose(output(other), output(source), rtol=0, atol=ATOL)


def test_w_and_d_go_from_one_framework_to_the_next(tmp_path):
    source = expected = torch_optimizer(depthwise_init="he")
    for number, target in enumerate((keras_optimizer(), gluon_trainer(), keras_optimizer())):
        checkpoints.save(source, tmp_path / f"{number}.safetensors")
        checkpoints.load(target, tmp_path / f"{number}.safetensors")
        for found, own in zip(parts(target), parts(expected), strict=True):
            np.testing.assert_array_equal(found, own)
        np.testing.assert_allclose(output(target), output(expected), rtol=0, atol=ATOL)
        source = target


def test_plain_kernels_start_as_the_identity(tmp_path):
    path, plain = tmp_path / "plain.safetensors", fold(convert(torch_network()))
    nn.init.normal_(plain[0].weight)
    target = torch_optimizer(depthwise_init="he")
    checkpoints.save(plain, path)
    checkpoints.load(target, path)
    np.testing.assert_array_equal(output(target), output(plain))
    assert not any(kernel.delta.any() for kernel in target.kernels.values())


def test_an_optimizer_is_composed_for_a_plain_network(tmp_path):
    path, plain = tmp_path / "one.safetensors", torch_network()
    source = torch_optimizer(depthwise_init="he")
    checkpoints.save(source, path)
    checkpoints.load(plain, path)
    np.testing.assert_allclose(output(plain), output(source), rtol=1e-12)


@pytest.mark.parametrize("make", [torch_optimizer, gluon_trainer, keras_optimizer])
def test_a_file_of_another_network_is_refused(make, tmp_path):
    path, target = tmp_path / "one.safetensors", make()
    before = output(target)
    checkpoints.save(nn.Conv2d(3, 4, 3), path)
    with pytest.raises(DOConvError, match="the layers of a file"):
        checkpoints.load(target, path)
    np.testing.assert_array_equal(output(target), before)
