"""How W and D' start: at the plain layer, or as Table 7 says."""

import keras
import numpy as np
import pytest

from do_conv.tf import (
    DOConv1D,
    DOConv1DTranspose,
    DOConv2D,
    DOConv2DTranspose,
    DOConv3D,
    DOConv3DTranspose,
    DODepthwiseConv2D,
)

TRANSPOSED = [DOConv1DTranspose, DOConv2DTranspose, DOConv3DTranspose]
LAYERS = [DOConv1D, DOConv2D, DOConv3D, DODepthwiseConv2D, *TRANSPOSED]
POLICIES = ["float64", "float32", "bfloat16", "mixed_bfloat16"]
SIZES = {1: (9,), 2: (7, 6), 3: (5, 4, 6)}


def plain_class(layer_class):
    return getattr(keras.layers, layer_class.__name__.removeprefix("DO"))


def sizes(layer_class, kernel_size=3):
    """The arguments a layer cannot do without."""
    depthwise = issubclass(layer_class, keras.layers.DepthwiseConv2D)
    filters = {} if depthwise else {"filters": 4}
    return {**filters, "kernel_size": kernel_size}


def rank_of(layer_class):
    return next(rank for rank in SIZES if f"{rank}D" in layer_class.__name__)


def an_input(layer_class, channels=4):
    shape = (2, *SIZES[rank_of(layer_class)], channels)
    return np.random.default_rng(0).standard_normal(shape).astype("float32")


def numbers(tensor):
    return keras.ops.convert_to_numpy(tensor)


@pytest.mark.parametrize(
    ("layer_class", "more", "policy"),
    [
        *[(layer_class, {}, policy) for layer_class in LAYERS for policy in POLICIES],
        (DOConv2DTranspose, {"strides": 2, "padding": "same", "activation": "relu"}, "bfloat16"),
        (DOConv1D, {"padding": "causal", "dilation_rate": 2}, "mixed_bfloat16"),
        (DOConv2D, {"strides": 2, "padding": "same", "activation": "relu"}, "bfloat16"),
        (DOConv2D, {"groups": 2, "use_bias": False}, "mixed_bfloat16"),
        (DODepthwiseConv2D, {"depth_multiplier": 2, "padding": "same"}, "bfloat16"),
    ],
)
def test_identity_start_is_the_plain_layer_to_the_last_bit(layer_class, more, policy):
    arguments = {**sizes(layer_class), **more, "dtype": policy}

    def output(cls):
        keras.utils.set_random_seed(11)
        return cls(**arguments)(an_input(layer_class).astype("float64"))

    ours, plain = output(layer_class), output(plain_class(layer_class))
    assert keras.backend.standardize_dtype(ours.dtype) == policy.removeprefix("mixed_")
    assert np.ptp(numbers(plain).astype("float64")) > 0.1
    np.testing.assert_array_equal(numbers(ours), numbers(plain))


@pytest.mark.parametrize("layer_class", [DOConv2D, DODepthwiseConv2D])
def test_identity_start_draws_no_more_than_the_plain_layer(layer_class):
    """Else the layers made after it would start elsewhere than in the plain network."""

    def starts(cls):
        keras.utils.set_random_seed(11)
        layers = [cls(**sizes(cls), bias_initializer="normal") for _ in range(2)]
        for layer in layers:
            layer.build(an_input(layer_class).shape)
        return [numbers(variable) for layer in layers for variable in (layer.kernel, layer.bias)]

    for ours, plain in zip(starts(layer_class), starts(plain_class(layer_class)), strict=True):
        assert np.ptp(plain) > 0
        np.testing.assert_array_equal(ours, plain)


@pytest.mark.parametrize("layer_class", LAYERS)
def test_identity_start_with_more_slots_sums_the_whole_blocks(layer_class):
    x, area = an_input(layer_class), 3 ** rank_of(layer_class)
    ours = layer_class(**sizes(layer_class), d_mul=2 * area + 1, dtype="float64")
    plain = plain_class(layer_class)(**sizes(layer_class), dtype="float64")
    ours.build(x.shape)
    plain.build(x.shape)
    kernel = numbers(ours.kernel)
    summed = kernel[:area] + kernel[area : 2 * area]
    plain.kernel.assign(summed.reshape(plain.kernel.shape))
    np.testing.assert_allclose(numbers(ours(x)), numbers(plain(x)), rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("layer", "d_mul"),
    [
        (DOConv2D(1, 3, depthwise_init="he"), 9),
        (DOConv2D(1, 3, depthwise_init="he", d_mul=13, dtype="bfloat16"), 13),
        (DODepthwiseConv2D(3, depthwise_init="he"), 9),
    ],
)
def test_he_start_has_the_mean_and_spread_of_table_7(layer, d_mul):
    keras.utils.set_random_seed(3)
    channels = 2000
    layer.build((None, 9, 9, channels))
    delta = numbers(layer.depthwise_delta).reshape(9, channels, d_mul).astype("float64")
    depthwise = delta + np.eye(9, d_mul)[:, None]
    # Five standard errors of the mean and of the standard deviation; bfloat16 draws from a grid
    # whose steps may round to one side by half a unit in the last place.
    std, count = np.sqrt(2 / 9), delta.size
    rounding = 2**-8 if layer.dtype == "bfloat16" else 0
    assert abs(depthwise.mean()) < 5 * std / np.sqrt(count) + rounding
    assert abs(depthwise.std() / std - 1) < 5 / np.sqrt(2 * count) + rounding
    assert abs(depthwise.mean(axis=1)).max() < 5 * std / np.sqrt(channels) + rounding


@pytest.mark.parametrize("layer_class", [DOConv1D, DODepthwiseConv2D])
def test_he_start_follows_the_seed(layer_class):
    def deltas(seed):
        keras.utils.set_random_seed(seed)
        layers = [layer_class(**sizes(layer_class), depthwise_init="he") for _ in range(2)]
        for layer in layers:
            layer.build(an_input(layer_class).shape)
        return [numbers(layer.depthwise_delta) for layer in layers]

    first, again, other = deltas(1), deltas(1), deltas(2)
    np.testing.assert_array_equal(first, again)
    assert abs(first[0] - other[0]).min() > 0
    assert abs(first[0] - first[1]).max() > 0.1
