"""Layers other than convolutions, and what is refused."""

import itertools

import do_conv.gluon  # noqa: F401 - before mxnet, which reads names that this module restores

# isort: split
import keras
import mxnet as mx
import numpy as np
import pytest
import torch
from mxnet.gluon import nn as gluon_nn
from torch import nn

from do_conv import DOConvError, checkpoints
from do_conv.checkpoints import neutral
from do_conv.torch import DOConv2d, convert, over_parameterize

CHANNELS = 6
X = np.random.default_rng(0).standard_normal((3, CHANNELS)).astype("float32")


def started(layer):
    if isinstance(layer, gluon_nn.HybridBlock):
        layer.initialize()
        layer(mx.nd.array(X))
    elif isinstance(layer, keras.layers.Layer):
        layer.build(X.shape)
    return layer


def run(layer, x=X):
    if isinstance(layer, nn.Module):
        return layer.eval()(torch.from_numpy(x)).detach().numpy()
    if isinstance(layer, gluon_nn.HybridBlock):
        return layer(mx.nd.array(x)).asnumpy()
    return np.array(layer(x))


def randomize(layer):
    with torch.no_grad():
        for name, tensor in layer.state_dict().items():
            if tensor.is_floating_point():
                tensor.normal_()
                tensor.copy_(tensor.abs() + 0.5 if name.endswith("running_var") else tensor)
    return layer


LAYERS = {
    "dense": (
        lambda: nn.Linear(CHANNELS, 4),
        lambda: gluon_nn.Dense(4),
        lambda: keras.layers.Dense(4),
    ),
    "dense without a bias": (
        lambda: nn.Linear(CHANNELS, 4, bias=False),
        lambda: gluon_nn.Dense(4),
        lambda: keras.layers.Dense(4, use_bias=False),
    ),
    "batch": (
        lambda: nn.BatchNorm1d(CHANNELS),
        gluon_nn.BatchNorm,
        lambda: keras.layers.BatchNormalization(epsilon=1e-5),
    ),
    "batch without a scale": (
        lambda: nn.BatchNorm1d(CHANNELS, affine=False),
        lambda: gluon_nn.BatchNorm(scale=False),
        lambda: keras.layers.BatchNormalization(epsilon=1e-5, scale=False),
    ),
    "layer": (
        lambda: nn.LayerNorm(CHANNELS),
        gluon_nn.LayerNorm,
        lambda: keras.layers.LayerNormalization(epsilon=1e-5),
    ),
    "group": (
        lambda: nn.GroupNorm(2, CHANNELS),
        None,
        lambda: keras.layers.GroupNormalization(2, epsilon=1e-5),
    ),
    "slopes": (
        lambda: nn.PReLU(CHANNELS),
        lambda: gluon_nn.PReLU(in_channels=CHANNELS),
        keras.layers.PReLU,
    ),
    "one slope": (nn.PReLU, gluon_nn.PReLU, lambda: keras.layers.PReLU(shared_axes=[1])),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_of_other_kinds(name, tmp_path):
    of_torch, *others = LAYERS[name]
    source = randomize(of_torch())
    expected, path = run(source), tmp_path / "a.safetensors"
    for make in filter(None, others):
        checkpoints.save(source, path)
        layer = started(make())
        checkpoints.load(layer, path)
        assert abs(run(layer) - expected).max() < 1e-6 * abs(expected).max()
        checkpoints.save(layer, path)
        again = of_torch()
        checkpoints.load(again, path)
        assert abs(run(again) - expected).max() < 1e-6 * abs(expected).max()


def test_a_scale_that_gluon_stores_and_does_not_apply(tmp_path):
    source, target = started(gluon_nn.BatchNorm(scale=False)), nn.BatchNorm1d(CHANNELS)
    source.gamma.set_data(mx.nd.full(CHANNELS, 3))
    checkpoints.save(source, tmp_path / "a.safetensors")
    checkpoints.load(target, tmp_path / "a.safetensors")
    assert abs(run(target) - run(source)).max() < 1e-6


def test_a_kernel_with_a_lora_is_not_the_one_that_is_applied(tmp_path):
    layer = started(keras.layers.Dense(4))
    layer.enable_lora(2)
    checkpoints.save(layer, tmp_path / "a.safetensors")
    assert not neutral.read(tmp_path / "a.safetensors").layers


class Scaled(nn.Module):
    """A layer that no other framework has."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(CHANNELS))
        self.register_buffer("steps", torch.tensor(0))
        self.register_buffer("made_again", torch.ones(2), persistent=False)
        self.conv = nn.Conv2d(4, 6, 3)


def test_layers_of_ones_own_go_by_name_to_the_same_framework(tmp_path):
    source, target = randomize(Scaled()), Scaled()
    source.steps.fill_(2**40 + 1)
    checkpoints.save(source, tmp_path / "a.safetensors")
    checkpoints.load(target, tmp_path / "a.safetensors")
    assert torch.equal(target.scale, source.scale)
    assert torch.equal(target.conv.weight, source.conv.weight)
    assert target.steps == 2**40 + 1
    stored = neutral.read(tmp_path / "a.safetensors").tensors
    assert set(stored) == {"scale", "steps", "conv.weight", "conv.bias"}


class Halved(nn.Conv2d):
    """Applies another kernel than it stores."""

    def forward(self, x):
        return self._conv_forward(x, self.weight / 2, self.bias)


def test_a_layer_that_applies_another_kernel_is_no_convolution_elsewhere(tmp_path):
    source, target = Halved(4, 6, 3), Halved(4, 6, 3)
    checkpoints.save(source, tmp_path / "a.safetensors")
    checkpoints.load(target, tmp_path / "a.safetensors")
    assert torch.equal(target.weight, source.weight)
    with pytest.raises(DOConvError, match="must be the same, by name"):
        checkpoints.load(nn.Conv2d(4, 6, 3), tmp_path / "a.safetensors")


def test_a_weight_given_a_d_by_over_parameterize_is_a_layer_of_ours(tmp_path):
    source = over_parameterize(nn.Conv2d(4, 6, 3), d_mul=11, depthwise_init="he")
    target = DOConv2d(4, 6, 3, d_mul=11)
    checkpoints.save(source, tmp_path / "a.safetensors")
    checkpoints.load(target, tmp_path / "a.safetensors")
    assert torch.equal(target.composed_weight(), source.weight)
    back = over_parameterize(nn.Conv2d(4, 6, 3), d_mul=11)
    checkpoints.load(back, tmp_path / "a.safetensors")
    assert torch.equal(back.weight, source.weight)


def test_another_parametrization_is_transferred_as_it_is(tmp_path):
    source, target = (nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 6, 3)) for _ in range(2))
    checkpoints.save(source, tmp_path / "a.safetensors")
    checkpoints.load(target, tmp_path / "a.safetensors")
    assert torch.equal(target.weight, source.weight)


def test_kernels_are_composed_in_double_precision(tmp_path):
    source, target = DOConv2d(1, 1, (1, 2), bias=False), nn.Conv2d(1, 1, (1, 2), bias=False)
    nn.init.ones_(source.weight)
    source.depthwise_delta.data[0, :, 0, 0] = torch.tensor([-1.0, 1e-9])  # their float32 sum is -1
    checkpoints.save(source, tmp_path / "a.safetensors")
    checkpoints.load(target, tmp_path / "a.safetensors")
    expected = torch.tensor([[[[1e-9, 1.0]]]])
    torch.testing.assert_close(target.weight.detach(), expected, rtol=1e-6, atol=0)


def test_double_precision_stays_in_every_framework(tmp_path):
    source, back = (nn.Linear(CHANNELS, 4, dtype=torch.float64) for _ in range(2))
    in_gluon = gluon_nn.Dense(4, in_units=CHANNELS)
    in_gluon.cast("float64")
    in_gluon.initialize()
    in_keras = keras.layers.Dense(4, dtype="float64")
    in_keras.build((None, CHANNELS))
    layers = [source, in_gluon, in_keras, back]
    for i, (one, other) in enumerate(itertools.pairwise(layers)):
        checkpoints.save(one, tmp_path / f"{i}.safetensors")
        checkpoints.load(other, tmp_path / f"{i}.safetensors")
    assert torch.equal(back.weight, source.weight)


def test_slots_after_the_whole_blocks_stay_drawn(tmp_path):
    plain, ours = nn.Conv2d(4, 6, 3), DOConv2d(4, 6, 3, d_mul=20, depthwise_init="he")
    checkpoints.save(plain, tmp_path / "a.safetensors")
    last = ours.weight[:, :, 18:].clone()
    checkpoints.load(ours, tmp_path / "a.safetensors")
    assert torch.equal(ours.composed_weight(), plain.weight)
    assert torch.equal(ours.weight[:, :, 18:], last)
    assert not ours.depthwise_delta.any()


def test_a_shared_layer_is_transferred_once(tmp_path):
    shared = nn.Conv2d(4, 4, 3)
    checkpoints.save(nn.Sequential(shared, shared), tmp_path / "a.safetensors")
    one = keras.layers.Conv2D(4, 3, name="0")
    model = keras.Sequential([keras.Input((9, 9, 4)), one])
    assert checkpoints.load(model, tmp_path / "a.safetensors") == {"0": "0"}


def subclassed():
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.stem = keras.layers.Conv2D(6, 3)
            self.blocks = [keras.layers.Conv2D(6, 3, name=f"block{i}") for i in range(2)]

        def call(self, x):
            for layer in (self.stem, *self.blocks):
                x = layer(x)
            return x

    model = Model()
    model(np.zeros((1, 9, 9, 4), "float32"))
    return model


def test_a_subclassed_keras_model(tmp_path):
    model = subclassed()
    plain = nn.Sequential(nn.Conv2d(4, 6, 3), nn.Conv2d(6, 6, 3), nn.Conv2d(6, 6, 3))
    checkpoints.save(convert(plain), tmp_path / "a.safetensors")
    pairs = checkpoints.load(model, tmp_path / "a.safetensors", match="order")
    assert list(pairs.values()) == [model.stem.name, "block0", "block1"]
    x = np.random.default_rng(0).standard_normal((1, 4, 9, 9)).astype("float32")
    found = np.array(model(x.transpose(0, 2, 3, 1))).transpose(0, 3, 1, 2)
    assert abs(found - run(plain, x)).max() < 1e-6


REFUSED = {
    "other names": (
        lambda: nn.Sequential(nn.Conv2d(4, 6, 3)), {},
        "received '' only in the file, '0' only in the model; give match='order'",
    ),
    "other counts": (
        lambda: nn.Sequential(nn.Conv2d(4, 6, 3), nn.Conv2d(6, 6, 3)), {"match": "order"},
        "received 1 layer in the file and 2 layers in the model",
    ),
    "an unknown match": (
        lambda: nn.Conv2d(4, 6, 3), {"match": "size"},
        "unknown match 'size'; choose from name, order.",
    ),
    "a name that is not there": (
        lambda: nn.Conv2d(4, 6, 3), {"match": {"conv": ""}},
        "unknown layer of the file 'conv'; the only one is ''.",
    ),
    "another kind": (
        lambda: nn.ConvTranspose2d(6, 4, 3), {},
        "must have the same kind; received convolution in the file, transposed in the model",
    ),
    "another kernel": (lambda: nn.Conv2d(4, 6, 5), {}, "must have the same kernel_size"),
    "other groups": (lambda: nn.Conv2d(4, 6, 3, groups=2), {}, "must have the same groups"),
    "other channels": (lambda: nn.Conv2d(4, 8, 3), {}, "must have the same arrays"),
    "no bias": (lambda: nn.Conv2d(4, 6, 3, bias=False), {}, "must have the same arrays"),
    "another d_mul": (lambda: DOConv2d(4, 6, 3, d_mul=12), {}, "must have the same arrays"),
    "no parameters": (lambda: nn.LazyConv2d(6, 3), {}, "after its parameters were made"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_exception_a_model_that_does_not_fit(name, tmp_path):
    make, options, said = REFUSED[name]
    checkpoints.save(DOConv2d(4, 6, 3), tmp_path / "a.safetensors")
    model = make()
    before = (
        {k: v.clone() for k, v in model.state_dict().items()} if "Lazy" not in str(model) else {}
    )
    with pytest.raises(DOConvError) as refused:
        checkpoints.load(model, tmp_path / "a.safetensors", **options)
    assert said in str(refused.value)
    for key, tensor in before.items():
        assert torch.equal(model.state_dict()[key], tensor)


def test_exception_nothing_is_given_if_one_layer_does_not_fit(tmp_path):
    checkpoints.save(nn.Sequential(nn.Conv2d(4, 6, 3), nn.Linear(4, 5)), tmp_path / "a.safetensors")
    model = nn.Sequential(nn.Conv2d(4, 6, 3), nn.Linear(4, 6))
    before = model[0].weight.clone()
    with pytest.raises(DOConvError, match="layer '1' of a file and layer '1' of the model"):
        checkpoints.load(model, tmp_path / "a.safetensors")
    assert torch.equal(model[0].weight, before)


def test_exception_another_epsilon(tmp_path):
    checkpoints.save(nn.BatchNorm1d(CHANNELS), tmp_path / "a.safetensors")
    layer = started(keras.layers.BatchNormalization())
    with pytest.raises(DOConvError, match=r"same epsilon; received 1e-05 in the file, 0\.001 in"):
        checkpoints.load(layer, tmp_path / "a.safetensors")


def test_exception_an_array_of_ones_own_of_another_shape(tmp_path):
    checkpoints.save(Scaled(), tmp_path / "a.safetensors")
    target = Scaled()
    target.scale = nn.Parameter(torch.ones(1))
    with pytest.raises(DOConvError, match="layer 'scale' of a file and layer 'scale'"):
        checkpoints.load(target, tmp_path / "a.safetensors")
    del target.scale
    with pytest.raises(DOConvError, match="received 'scale' only in the file, none only in the"):
        checkpoints.load(target, tmp_path / "a.safetensors")


def test_exception_an_array_of_ones_own_of_an_unknown_dtype(tmp_path):
    path = tmp_path / "a.safetensors"
    checkpoints.save(Scaled(), path)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"I64"', b'"U64"'))
    with pytest.raises(DOConvError, match="unknown dtype of 'steps' "):
        checkpoints.load(Scaled(), path)


def test_exception_what_is_no_model(tmp_path):
    with pytest.raises(DOConvError, match="a model must be one of PyTorch, Keras or MXNet Gluon"):
        checkpoints.save({}, tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


def test_slopes_for_each_channel_of_maps(tmp_path):
    source = randomize(nn.PReLU(CHANNELS))
    checkpoints.save(source, tmp_path / "a.safetensors")
    x = np.random.default_rng(1).standard_normal((2, CHANNELS, 3, 4)).astype("float32")
    last = x.transpose(0, 2, 3, 1)
    layer = keras.layers.PReLU(shared_axes=[1, 2])
    layer.build(last.shape)
    checkpoints.load(layer, tmp_path / "a.safetensors")
    assert np.array_equal(run(layer, last).transpose(0, 3, 1, 2), run(source, x))
    checkpoints.save(layer, tmp_path / "b.safetensors")
    again = nn.PReLU(CHANNELS)
    checkpoints.load(again, tmp_path / "b.safetensors")
    assert torch.equal(again.weight, source.weight)


def test_slopes_for_each_position_stay_in_keras(tmp_path):
    layers = [keras.layers.PReLU("normal") for _ in range(2)]
    for layer in layers:
        layer.build((None, 3, 4, CHANNELS))
    checkpoints.save(layers[0], tmp_path / "a.safetensors")
    assert not neutral.read(tmp_path / "a.safetensors").layers
    checkpoints.load(layers[1], tmp_path / "a.safetensors")
    assert np.array_equal(*(np.array(layer.alpha) for layer in layers))


def with_buffer(dtype):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    model[1].running_mean = torch.zeros(4).to(dtype)
    return model


@pytest.mark.parametrize(
    ("model", "dtype"),
    [(DOConv2d(3, 4, 3, dtype=torch.complex64), "complex64"),
     (with_buffer(torch.float8_e5m2), "float8_e5m2")],
)  # fmt: skip
def test_exception_numbers_that_the_format_has_not(model, dtype, tmp_path):
    with pytest.raises(DOConvError, match=f"must hold numbers of .* with {dtype}"):
        checkpoints.save(model, tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())
