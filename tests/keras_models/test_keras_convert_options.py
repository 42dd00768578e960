"""Which layers of a Keras model are converted, and what is refused."""

import keras
import pytest
from small_keras import conv, kinds, small

from do_conv import DOConvError
from do_conv.tf import DOConv2D, convert, fold, folded_weights, plan, verify


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (
            small(keras.layers.Dense(2)),
            {},
            "must have a convolution .* received a model without convolutions;",
        ),
        (
            small(conv()),
            {"where": lambda *_: False},
            "left because it was not chosen; look at",
        ),
        (small(conv()), {"d_mul": 8}, "d_mul must be at least the number of .*, 9"),
        (small(conv()), {"composition": "both"}, "unknown composition 'both'"),
        (small(conv()), {"depthwise_init": "ones"}, "unknown depthwise_init 'ones'"),
    ],
)
def test_exception_options(model, options, message):
    with pytest.raises(DOConvError, match=message):
        convert(model, **options)


def test_exception_converting_twice(network):
    match = r"has a depthwise kernel already \(\d+\), a 1 x 1 kernel has nothing to .* \(1\); look"
    with pytest.raises(DOConvError, match=match):
        convert(convert(network))


def test_what_was_left_may_be_converted_later(network, x, shaken):
    partly = convert(network, where=lambda name, _: name == "inner/separable")
    assert kinds(partly)["shared"] == "Conv2D"
    fully = convert(partly)
    assert type(fully.get_layer("shared")) is DOConv2D
    assert verify(network, fully, x) == 0


def test_where_is_a_regular_expression():
    layers = [keras.layers.Conv2D(4, 3, name=name) for name in ("stem", "head")]
    model = convert(keras.Sequential([keras.Input((8, 8, 3)), *layers]), where="^st")
    assert [type(layer) for layer in model.layers] == [DOConv2D, keras.layers.Conv2D]


def test_exception_no_model():
    match = "a model must be a Keras model or layer; received a list; give the model itself"
    for function in (convert, plan, fold, folded_weights, lambda one: verify(one, one)):
        with pytest.raises(DOConvError, match=match):
            function([1, 2])
