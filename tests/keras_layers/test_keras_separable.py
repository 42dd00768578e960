"""Depthwise separable layers: the plain layer's arguments and variables, one composed kernel."""

import inspect

import keras
import numpy as np
import pytest

from do_conv import DOConvError
from do_conv.tf import DepthwiseSeparableConv1D, DepthwiseSeparableConv2D, folded_weights

CASES = [
    (DepthwiseSeparableConv1D, {"filters": 5, "kernel_size": 3, "strides": 2}),
    (DepthwiseSeparableConv2D, {"filters": 5, "kernel_size": 3, "depth_multiplier": 2}),
    (DepthwiseSeparableConv2D, {"filters": 5, "kernel_size": (2, 3), "padding": "same"}),
    (
        DepthwiseSeparableConv2D,
        {"filters": 5, "kernel_size": 2, "dilation_rate": 2, "use_bias": False},
    ),
]
LAYERS = [DepthwiseSeparableConv1D, DepthwiseSeparableConv2D]


def plain_class(layer_class):
    return getattr(keras.layers, layer_class.__name__.removeprefix("Depthwise"))


def numbers(tensor):
    return keras.ops.convert_to_numpy(tensor)


def an_input(rank, dtype="float32"):
    return np.random.default_rng(0).standard_normal((2, *(9, 8)[:rank], 4)).astype(dtype)


def pair(layer_class, arguments, **more):
    """A layer, and the plain one with the same weights, far from their start."""
    layer, plain = layer_class(**arguments, **more), plain_class(layer_class)(**arguments, **more)
    random = np.random.default_rng(1)
    for module in (layer, plain):
        module.build((None, *[9] * module.rank, 4))
    plain.set_weights([0.5 * random.standard_normal(v.shape) for v in plain.get_weights()])
    layer.set_weights(plain.get_weights())
    return layer, plain


@pytest.mark.parametrize("layer_class", LAYERS)
def test_signature_is_the_plain_one_and_a_composition_by_keyword(layer_class):
    plain = list(inspect.signature(plain_class(layer_class)).parameters.values())
    ours = list(inspect.signature(layer_class).parameters.values())
    added = ours.pop(-2)
    assert [(p.name, p.kind) for p in ours] == [(p.name, p.kind) for p in plain]
    assert (added.name, added.kind, added.default) == ("composition", added.KEYWORD_ONLY, "kernel")


@pytest.mark.parametrize("layer_class", LAYERS)
def test_arguments_by_position_mean_what_they_mean_in_the_plain_layer(layer_class):
    rank = 1 + (layer_class is DepthwiseSeparableConv2D)
    given = [6, (3,) * rank, (1,) * rank, "same", "channels_first", (2,) * rank, 2, "relu", False]
    given += [
        "he_normal",
        "ones",
        "zeros",
        "l1",
        "l2",
        "l1",
        "l2",
        "non_neg",
        "unit_norm",
        "max_norm",
    ]
    ours = layer_class(*given, name="layer").get_config()
    plain = plain_class(layer_class)(*given, name="layer").get_config()
    assert ours == {**plain, "composition": "kernel"}


@pytest.mark.parametrize(("layer_class", "arguments"), CASES)
def test_variables_are_the_plain_layers(layer_class, arguments):
    layer, plain = pair(layer_class, arguments)
    names = [[(v.name, tuple(v.shape)) for v in layer.weights] for layer in (layer, plain)]
    assert names[0] == names[1]


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize(("layer_class", "arguments"), CASES[:2])
def test_feature_composition_is_the_plain_layer_to_the_last_bit(layer_class, arguments, policy):
    layer, plain = pair(layer_class, arguments, dtype=policy)
    layer.composition, x = "feature", an_input(layer.rank)
    np.testing.assert_array_equal(numbers(layer(x)), numbers(plain(x)))


@pytest.mark.parametrize(("layer_class", "arguments"), CASES)
def test_kernel_composition_gives_the_same_output_in_another_order(layer_class, arguments):
    layer, plain = pair(layer_class, arguments, dtype="float64")
    x = an_input(layer.rank, "float64")
    found, expected = numbers(layer(x)), numbers(plain(x))
    assert tuple(found.shape) == tuple(layer.compute_output_shape(x.shape))
    assert abs(expected).max() > 1
    assert abs(found - expected).max() < 1e-13 * abs(expected).max()
    assert (found != expected).any()


def test_it_composes_in_the_variables_precision():
    """Composed in bfloat16, the kernel would be rounded before its sums, too."""
    layer, _ = pair(*CASES[3], dtype="mixed_bfloat16")
    x = keras.ops.cast(an_input(2), "bfloat16")
    kernel = keras.ops.cast(pair(*CASES[3])[0].composed_kernel(), "bfloat16")
    expected = keras.ops.conv(x, kernel, dilation_rate=2, data_format="channels_last")
    found = layer(x)
    assert keras.backend.standardize_dtype(found.dtype) == "bfloat16"
    np.testing.assert_array_equal(numbers(found), numbers(expected))


@pytest.mark.parametrize(("layer_class", "arguments"), CASES)
def test_fold_is_exactly_the_plain_layer(layer_class, arguments):
    layer, plain = pair(layer_class, arguments, name="seventh")
    folded = layer.fold()
    assert type(folded) is type(plain)
    assert folded.get_config() == plain.get_config()
    for new, old, value in zip(
        folded.get_weights(), plain.get_weights(), folded_weights(layer), strict=True
    ):
        np.testing.assert_array_equal(new, old)
        np.testing.assert_array_equal(value, old)


@pytest.mark.parametrize("variable", ["depthwise_kernel", "pointwise_kernel", "bias"])
def test_fold_refuses_what_is_not_finite(variable):
    layer, _ = pair(*CASES[1])
    getattr(layer, variable).assign(np.full(tuple(getattr(layer, variable).shape), np.nan))
    with pytest.raises(DOConvError, match=f"{variable} must be finite"):
        layer.fold()
    assert np.isnan(numbers(getattr(layer.fold(check_finite=False), variable))).all()


def test_a_saved_model_is_the_same_model(tmp_path):
    inputs = keras.Input((None, None, 4))
    layer, _ = pair(*CASES[1])
    layer.composition = "feature"
    model = keras.Model(inputs, layer(inputs))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert type(again.layers[1]) is DepthwiseSeparableConv2D
    assert again.layers[1].composition == "feature"
    np.testing.assert_array_equal(numbers(again(an_input(2))), numbers(model(an_input(2))))


def test_a_weights_file_has_the_plain_layers_keys(tmp_path):
    for layer in pair(*CASES[1]):
        model = keras.Sequential([keras.Input((9, 9, 4)), layer])
        model.save_weights(tmp_path / f"{type(layer).__name__}.weights.h5")
    import h5py

    ours, plain = (
        h5py.File(tmp_path / f"{name}.weights.h5")["layers"]
        for name in ("DepthwiseSeparableConv2D", "SeparableConv2D")
    )
    ours, plain = ours["depthwise_separable_conv2d/vars"], plain["separable_conv2d/vars"]
    assert list(ours) == list(plain)
    for key in plain:
        np.testing.assert_array_equal(ours[key][()], plain[key][()])


@pytest.mark.parametrize(
    ("argument", "value", "rule"),
    [
        ("filters", 0, "filters must be a positive integer"),
        ("depth_multiplier", 1.5, "depth_multiplier must be a positive integer"),
        ("kernel_size", (3, 0), "kernel_size must be a positive integer"),
        ("strides", "2", "strides must be an integer or 2 of them"),
        ("dilation_rate", 0, "dilation_rate must be a positive integer"),
    ],
)
def test_a_wrong_argument(argument, value, rule):
    with pytest.raises(DOConvError, match=f"{rule}.*; received .*; "):
        DepthwiseSeparableConv2D(**{"filters": 4, "kernel_size": 3, argument: value})


@pytest.mark.parametrize(
    ("argument", "value", "said"),
    [
        ("padding", "causal", "unknown padding 'causal'; choose from valid, same"),
        ("data_format", "NHWC", "unknown data_format 'nhwc'; choose from channels_last"),
        ("composition", "both", "unknown composition 'both'; choose from kernel, feature"),
    ],
)
def test_an_unknown_word(argument, value, said):
    with pytest.raises(DOConvError, match=said):
        DepthwiseSeparableConv2D(**{"filters": 4, "kernel_size": 3, argument: value})


def test_a_wrong_input_or_composition():
    layer, _ = pair(*CASES[1])
    with pytest.raises(DOConvError, match="made for 4 input channels, on axis 3"):
        layer(np.zeros((2, 9, 9, 5), "float32"))
    layer.composition = "features"
    with pytest.raises(DOConvError, match="unknown composition"):
        layer(an_input(2))


def test_repr_adds_a_composition_that_differs():
    layer = DepthwiseSeparableConv2D(4, 3, depth_multiplier=2, name="layer")
    assert repr(layer) == "<DepthwiseSeparableConv2D name=layer, built=False>"
    layer.composition = "feature"
    assert repr(layer).endswith("built=False, composition='feature'>")
