"""The layers as a person first meets them: arguments, variables, starts and repr."""

import inspect

import keras
import numpy as np
import pytest

from do_conv.tf import DOConv1D, DOConv2D, DOConv3D, DODepthwiseConv2D

LAYERS = [DOConv1D, DOConv2D, DOConv3D, DODepthwiseConv2D]
POLICIES = ["float64", "float32", "bfloat16", "mixed_bfloat16"]
OURS = ["d_mul", "depthwise_init", "composition", "delta_regularizer", "delta_constraint"]
SIZES = {"DOConv1D": (9,), "DOConv2D": (7, 6), "DOConv3D": (5, 4, 6), "DODepthwiseConv2D": (7, 6)}


def plain_class(layer_class):
    return getattr(keras.layers, layer_class.__name__.removeprefix("DO"))


def sizes(layer_class, kernel_size=3):
    """The arguments a layer cannot do without."""
    depthwise = issubclass(layer_class, keras.layers.DepthwiseConv2D)
    filters = {} if depthwise else {"filters": 4}
    return {**filters, "kernel_size": kernel_size}


def an_input(layer_class, channels=4):
    shape = (2, *SIZES[layer_class.__name__], channels)
    return np.random.default_rng(0).standard_normal(shape).astype("float32")


def numbers(tensor):
    return keras.ops.convert_to_numpy(tensor)


@pytest.mark.parametrize("layer_class", LAYERS)
def test_signature_is_the_plain_one_then_ours_by_keyword(layer_class):
    plain = list(inspect.signature(plain_class(layer_class)).parameters.values())
    ours = list(inspect.signature(layer_class).parameters.values())
    added = ours[len(plain) - 1 : -1]
    assert [(p.name, p.kind) for p in ours if p not in added] == [(p.name, p.kind) for p in plain]
    assert [p.name for p in added] == OURS
    assert all(p.kind is p.KEYWORD_ONLY for p in added)


@pytest.mark.parametrize("layer_class", LAYERS)
def test_defaults_are_the_plain_ones(layer_class):
    ours = layer_class(**sizes(layer_class), name="layer").get_config()
    plain = plain_class(layer_class)(**sizes(layer_class), name="layer").get_config()
    assert {key: value for key, value in ours.items() if key not in OURS} == plain
    own = [3 ** len(SIZES[layer_class.__name__]), "identity", "kernel", None, None]
    assert [ours[key] for key in OURS] == own


@pytest.mark.parametrize("layer_class", LAYERS)
def test_arguments_by_position_mean_what_they_mean_in_the_plain_layer(layer_class):
    rank = len(SIZES[layer_class.__name__])
    middle = ["channels_first", (2,) * rank]
    head, after = [6, (3,) * rank, (1,) * rank, "same"], [*middle, 2]
    if layer_class is DODepthwiseConv2D:
        head, after = [(3, 3), (1, 1), "same", 2], middle
    tail = ["relu", False, "he_normal", "ones", "l1", "l2", "l1", "non_neg", "unit_norm"]
    ours = layer_class(*head, *after, *tail, name="layer").get_config()
    plain = plain_class(layer_class)(*head, *after, *tail, name="layer").get_config()
    assert {key: ours[key] for key in plain} == plain
    with pytest.raises(TypeError, match="positional"):
        layer_class(*head, *after, *tail, 30)


@pytest.mark.parametrize("padding", ["SAME", "Valid"])
@pytest.mark.parametrize("layer_class", LAYERS)
def test_padding_in_any_case_as_the_plain_layer_takes_it(layer_class, padding):
    plain = plain_class(layer_class)(**sizes(layer_class), padding=padding)
    assert layer_class(**sizes(layer_class), padding=padding).padding == plain.padding


@pytest.mark.parametrize("layer_class", LAYERS)
def test_is_the_plain_layer(layer_class):
    assert isinstance(layer_class(**sizes(layer_class)), plain_class(layer_class))


@pytest.mark.parametrize(
    ("layer", "channels", "kernel", "bias", "delta"),
    [
        (DOConv1D(8, 3), 4, (3, 4, 8), 8, (3, 4, 3)),
        (DOConv2D(8, (2, 3)), 4, (2, 3, 4, 8), 8, (2, 3, 4, 6)),
        (DOConv3D(8, (1, 2, 3)), 4, (1, 2, 3, 4, 8), 8, (1, 2, 3, 4, 6)),
        (DOConv2D(6, 3, groups=2), 4, (3, 3, 2, 6), 6, (3, 3, 4, 9)),
        (DOConv1D(8, 3, d_mul=7), 4, (7, 4, 8), 8, (3, 4, 7)),
        (DOConv2D(8, (2, 3), d_mul=12, groups=2), 4, (12, 2, 8), 8, (2, 3, 4, 12)),
        (DOConv3D(6, 2, d_mul=9, groups=3), 3, (9, 1, 6), 6, (2, 2, 2, 3, 9)),
        (DODepthwiseConv2D(3), 4, (3, 3, 4, 1), 4, (3, 3, 4, 9)),
        (DODepthwiseConv2D((2, 3), depth_multiplier=2), 4, (2, 3, 4, 2), 8, (2, 3, 4, 6)),
        (DODepthwiseConv2D(2, depth_multiplier=2, d_mul=5), 4, (5, 4, 2), 8, (2, 2, 4, 5)),
        (DOConv2D(8, 1), 4, (1, 1, 4, 8), 8, None),
        (DOConv1D(8, 1, d_mul=5), 4, (1, 4, 8), 8, None),
        (DODepthwiseConv2D(1, d_mul=5), 4, (1, 1, 4, 1), 4, None),
        (DOConv2D(8, 3, use_bias=False), 4, (3, 3, 4, 8), None, (3, 3, 4, 9)),
    ],
)
def test_variables(layer, channels, kernel, bias, delta):
    layer.build((None, *[9] * layer.rank, channels))
    expected = {"kernel": kernel, "bias": bias and (bias,), "depthwise_delta": delta}
    assert [(v.name, tuple(v.shape)) for v in layer.weights] == [
        (name, shape) for name, shape in expected.items() if shape is not None
    ]
    assert [v.name for v in layer.trainable_weights] == [v.name for v in layer.weights]
    if delta is None:
        assert layer.depthwise_delta is None


@pytest.mark.parametrize(
    ("d_mul", "composition"), [(None, "kernel"), (1, "feature"), (6, "kernel"), (6, "feature")]
)
@pytest.mark.parametrize("layer_class", LAYERS)
def test_a_kernel_of_one_position_is_the_plain_layer(layer_class, d_mul, composition):
    ours = layer_class(**sizes(layer_class, 1), d_mul=d_mul, composition=composition)
    plain, x = plain_class(layer_class)(**sizes(layer_class, 1)), an_input(layer_class)
    for layer in (ours, plain):
        layer.build(x.shape)
    ours.set_weights(plain.get_weights())
    np.testing.assert_array_equal(numbers(ours(x)), numbers(plain(x)))


@pytest.mark.parametrize(
    ("layer_class", "more", "policy"),
    [
        *[(layer_class, {}, policy) for layer_class in LAYERS for policy in POLICIES],
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
    x, area = an_input(layer_class), 3 ** len(SIZES[layer_class.__name__])
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


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({}, ""),
        ({"d_mul": 9, "depthwise_init": "identity", "composition": "kernel"}, ""),
        ({"d_mul": 12}, ", d_mul=12"),
        ({"depthwise_init": "he"}, ", depthwise_init='he'"),
        ({"composition": "feature"}, ", composition='feature'"),
        (
            {"d_mul": 10, "depthwise_init": "he", "composition": "feature"},
            ", d_mul=10, depthwise_init='he', composition='feature'",
        ),
        ({"kernel_size": 1, "d_mul": 4}, ""),
    ],
)
@pytest.mark.parametrize("layer_class", [DOConv2D, DODepthwiseConv2D])
def test_repr_adds_what_differs(layer_class, options, shown):
    layer = layer_class(**{**sizes(layer_class), **options, "name": "layer"})
    assert repr(layer) == f"<{layer_class.__name__} name=layer, built=False{shown}>"
    layer.build((None, 7, 7, 4))
    assert repr(layer) == f"<{layer_class.__name__} name=layer, built=True{shown}>"
