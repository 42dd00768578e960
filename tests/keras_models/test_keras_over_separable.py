"""`DOSeparableConv1D` and `2D`: the separable layer with a D' on its depthwise kernel."""

import inspect

import keras
import numpy as np
import pytest

from do_conv import DOConvError
from do_conv.core.composition import compose
from do_conv.tf import DOSeparableConv1D, DOSeparableConv2D, convert, verify

CASES = [
    (DOSeparableConv1D, {"filters": 5, "kernel_size": 3, "strides": 2}),
    (DOSeparableConv2D, {"filters": 5, "kernel_size": 3, "depth_multiplier": 2}),
    (DOSeparableConv2D, {"filters": 5, "kernel_size": (2, 3), "padding": "same"}),
    (DOSeparableConv2D, {"filters": 5, "kernel_size": 2, "dilation_rate": 2, "use_bias": False}),
]


def numbers(tensor):
    return np.array(keras.ops.convert_to_numpy(tensor))


def an_input(rank):
    return np.random.default_rng(0).standard_normal((2, *(9, 8)[:rank], 4)).astype("float32")


def trained(layer_class, arguments, **more):
    layer = layer_class(**arguments, **more)
    layer.build((None, *(9, 8)[: layer.rank], 4))
    random = np.random.default_rng(1)
    for variable in layer.weights:
        variable.assign(0.5 * random.standard_normal(tuple(variable.shape)))
    return layer


@pytest.mark.parametrize("layer_class", [DOSeparableConv1D, DOSeparableConv2D])
def test_signature_is_the_plain_one_and_ours_by_keyword(layer_class):
    plain = list(inspect.signature(layer_class._plain).parameters.values())
    ours = list(inspect.signature(layer_class).parameters.values())
    added = [p for p in ours if p.kind is p.KEYWORD_ONLY]
    assert [(p.name, p.kind) for p in ours if p not in added] == [(p.name, p.kind) for p in plain]
    assert [p.name for p in added] == [
        "d_mul", "depthwise_init", "composition", "delta_regularizer", "delta_constraint",
    ]  # fmt: skip


@pytest.mark.parametrize(("layer_class", "arguments"), CASES)
@pytest.mark.parametrize("extra", [0, 3])
def test_the_depthwise_kernel_is_the_cores(layer_class, arguments, extra):
    area = int(np.prod(layer_class(**arguments).kernel_size))
    layer = trained(layer_class, arguments, d_mul=area + extra)
    # The core has the axes (C_out, C_in/G, D_mul) and (C_in, D_mul, *K).
    multiplier, rank = layer.depth_multiplier, layer.rank
    weight = numbers(layer.depthwise_kernel).reshape(area + extra, 4 * multiplier)
    delta = np.moveaxis(numbers(layer.depthwise_delta), (-2, -1), (0, 1))
    expected = compose(weight.T[:, None], delta, groups=4)
    expected = np.moveaxis(expected.reshape(4, multiplier, *layer.kernel_size), (0, 1), (-2, -1))
    np.testing.assert_allclose(numbers(layer.composed_kernel()), expected, atol=1e-5)
    folded = layer.fold()
    assert type(folded) is layer_class._plain
    assert verify(layer, folded, an_input(rank)) < 1e-6


@pytest.mark.parametrize(("layer_class", "arguments"), CASES)
def test_the_compositions_give_the_same(layer_class, arguments):
    layer = trained(layer_class, arguments)
    x = an_input(layer.rank)
    by_kernel = numbers(layer(x))
    layer.composition = "feature"
    assert abs(numbers(layer(x)) - by_kernel).max() < 1e-5 * abs(by_kernel).max()


@pytest.mark.parametrize("layer_class", [DOSeparableConv1D, DOSeparableConv2D])
def test_exception_an_unknown_composition_set_later(layer_class):
    layer = trained(layer_class, {"filters": 5, "kernel_size": 3})
    layer.composition = "features"
    match = r"unknown composition 'features'; did you mean feature\?"
    with pytest.raises(DOConvError, match=match):
        layer(an_input(layer.rank))


@pytest.mark.parametrize("composition", ["kernel", "feature"])
@pytest.mark.parametrize(("layer_class", "arguments"), CASES)
def test_saved_and_loaded(layer_class, arguments, composition, tmp_path):
    layer = trained(layer_class, arguments, d_mul=12, composition=composition)
    size = (9, 8)[: layer.rank]
    model = keras.Sequential([keras.Input((*size, 4)), layer])
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.layers[0].get_config() == layer.get_config()
    np.testing.assert_array_equal(
        numbers(again(an_input(layer.rank))), numbers(layer(an_input(layer.rank)))
    )


def test_all_of_it_trains():
    model = keras.Sequential([keras.Input((9, 8, 4)), keras.layers.SeparableConv2D(3, 3)])
    model = convert(model)
    before = [numbers(variable) for variable in model.weights]
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(an_input(2), np.ones((2, 7, 6, 3)), verbose=0)
    assert len(before) == 4
    for variable, old in zip(model.weights, before, strict=True):
        assert abs(numbers(variable) - old).max() > 0


def test_a_kernel_of_one_position_has_no_delta():
    layer = DOSeparableConv2D(4, 1)
    plain = keras.layers.SeparableConv2D(4, 1)
    plain(an_input(2))
    layer.build((None, 9, 8, 4))
    assert layer.depthwise_delta is None
    layer.set_weights(plain.get_weights())
    assert verify(plain, layer, an_input(2)) == 0
