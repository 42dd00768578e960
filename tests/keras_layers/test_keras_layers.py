"""The layers as a person first meets them: arguments, variables and repr."""

import inspect

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
OURS = ["d_mul", "depthwise_init", "composition", "delta_regularizer", "delta_constraint"]
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
    own = [3 ** rank_of(layer_class), "identity", "kernel", None, None]
    assert [ours[key] for key in OURS] == own


@pytest.mark.parametrize("layer_class", LAYERS)
def test_arguments_by_position_mean_what_they_mean_in_the_plain_layer(layer_class):
    rank = rank_of(layer_class)
    middle = ["channels_first", (2,) * rank]
    head, after = [6, (3,) * rank, (1,) * rank, "same"], [*middle, 2]
    if layer_class is DODepthwiseConv2D:
        head, after = [(3, 3), (1, 1), "same", 2], middle
    if layer_class in TRANSPOSED:
        # In three dimensions Keras has the two in the other order.
        middle = ["channels_first", (1,) * rank][:: -1 if rank < 3 else 1]
        head, after = [6, (3,) * rank, (2,) * rank, "same"], [*middle, (1,) * rank]
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
        (DOConv1DTranspose(8, 3), 4, (3, 8, 4), 8, (3, 8, 3)),
        (DOConv2DTranspose(8, (2, 3), d_mul=7), 4, (7, 8, 4), 8, (2, 3, 8, 7)),
        (
            DOConv3DTranspose(8, (1, 2, 3), use_bias=False),
            4,
            (1, 2, 3, 8, 4),
            None,
            (1, 2, 3, 8, 6),
        ),
        (DOConv2DTranspose(8, 1, d_mul=4), 4, (1, 1, 8, 4), 8, None),
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


@pytest.mark.parametrize("layer_class", LAYERS)
def test_the_spec_is_there_before_the_input_is_known(layer_class):
    layer, rank = layer_class(**sizes(layer_class), d_mul=30), rank_of(layer_class)
    spec = layer.spec
    assert (spec.in_channels, spec.kernel_size, spec.d_mul) == (None, (3,) * rank, 30)
    layer.build(an_input(layer_class).shape)
    assert (layer.spec.in_channels, layer.spec.d_mul, layer.d_mul) == (4, 30, 30)
    assert layer.spec.is_known


@pytest.mark.parametrize(
    ("d_mul", "composition"), [(None, "kernel"), (1, "feature"), (6, "kernel"), (6, "feature")]
)
@pytest.mark.parametrize("layer_class", LAYERS)
def test_a_kernel_of_one_position_is_the_plain_layer(layer_class, d_mul, composition):
    if layer_class in TRANSPOSED:
        composition = "kernel"
    ours = layer_class(**sizes(layer_class, 1), d_mul=d_mul, composition=composition)
    plain, x = plain_class(layer_class)(**sizes(layer_class, 1)), an_input(layer_class)
    for layer in (ours, plain):
        layer.build(x.shape)
    ours.set_weights(plain.get_weights())
    np.testing.assert_array_equal(numbers(ours(x)), numbers(plain(x)))


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
