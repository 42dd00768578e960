"""`plan` of Keras models, and the ready choices of layers."""

import keras
import numpy as np
import pytest

from do_conv import DOConvError, choices
from do_conv.tf import DOConvOptimizer, convert, plan
from do_conv.tf.models.planning import in_own_order


def converted(model, where):
    return [row.name for row in plan(model, where=where).converted]


def stack(*layers, size=(8, 8, 3), **options):
    return keras.Sequential([keras.Input(size, **options), *layers])


def test_rows_are_the_convolutions_in_order(network):
    rows = {row.name: (row.kind, row.becomes, row.reason) for row in plan(network)}
    assert rows == {
        "shared": ("Conv2D", "DOConv2D", None),
        "depthwise": ("DepthwiseConv2D", "DODepthwiseConv2D", None),
        "inner/separable": ("SeparableConv2D", "DOSeparableConv2D", None),
        "inner/pointwise": ("Conv2D", None, "a 1 x 1 kernel has nothing to over-parameterize"),
        "sequential/up": ("Conv2DTranspose", "DOConv2DTranspose", None),
    }


@pytest.mark.parametrize("d_mul", [None, lambda spec: spec.area + 3])
def test_parameters_are_those_of_the_models(network, d_mul):
    found = plan(network, d_mul=d_mul)
    assert found.parameters == network.count_params()
    assert found.training_parameters == convert(network, d_mul=d_mul).count_params()


def test_multiply_accumulates():
    model = stack(
        keras.layers.Conv2D(8, 3, strides=2, padding="same"),
        keras.layers.Conv2DTranspose(4, 2, strides=2),
    )
    first, up = found = list(plan(model))
    assert first.macs(2) == (2 * 16 * 8 * 3 * 9, 2 * 16 * 8 * 3 * 9 + 9 * 9 * 8 * 3)
    assert up.macs(2) == (2 * 16 * 8 * 4 * 4, 2 * 16 * 8 * 4 * 4 + 4 * 4 * 8 * 4)
    by_feature = plan(model, composition="feature")
    assert by_feature.rows[0].macs(2)[1] == 2 * 16 * (9 * 9 * 3 + 8 * 3 * 9)
    assert by_feature.rows[1].macs(2) == up.macs(2)
    assert [row.positions for row in found] == [((4, 4),), ((4, 4),)]
    assert plan(model).batch == 1
    start = keras.Input(batch_shape=(4, 8, 8, 3))
    assert plan(keras.Model(start, model(start))).batch == 4
    assert plan(model, input_shape=(5, 8, 8, 3)).macs == tuple(
        map(sum, zip(first.macs(5), up.macs(5), strict=True))
    )


def test_a_layer_is_counted_for_each_time_it_is_used():
    inputs, layer = keras.Input((8, 8, 3)), keras.layers.Conv2D(3, 3, padding="same", name="conv")
    inner = stack(layer, keras.layers.MaxPool2D(), size=(None, None, 3))
    (row,) = found = plan(keras.Model(inputs, inner(inner(layer(inputs)))))
    assert row.positions == ((8, 8), (8, 8), (4, 4))
    assert found.macs == (144 * 3 * 3 * 9, 144 * 3 * 3 * 9 + 3 * 9 * 9 * 3 * 3)


def test_layers_without_variables_are_not_counted():
    model = keras.Sequential([keras.layers.Conv2D(4, 3), keras.layers.SeparableConv2D(4, 3)])
    found = plan(model, input_shape=(1, 8, 8, 3))
    assert found.macs is None
    assert [row.becomes for row in found] == ["DOConv2D", "DOSeparableConv2D"]
    assert not model.built
    assert plan(convert(stack(keras.layers.Conv2D(4, 3)))).macs is None


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.Conv2D(6, 3, groups=3),
        keras.layers.DepthwiseConv2D(3, depth_multiplier=2),
        keras.layers.Conv2DTranspose(4, 3),
        keras.layers.SeparableConv2D(4, 3),
    ],
    ids=lambda layer: type(layer).__name__,
)
@pytest.mark.parametrize("ours", [False, True])
def test_exception_an_input_of_other_channels(layer, ours):
    model = stack(layer, size=(None, None, 3))
    model = convert(model) if ours else model
    plan(model, input_shape=(2, 8, 8, 3))
    kept = [set(vars(one)) for one in model.layers]
    match = r"made for 3 input channels, on axis 3; received an input of shape \(2, 8, 8, 1\)"
    with pytest.raises(DOConvError, match=match):
        plan(model, input_shape=(2, 8, 8, 1))
    assert [set(vars(one)) for one in model.layers] == kept


def test_another_size_than_the_models_own(network):
    rows = {row.name: row.positions for row in plan(network)}
    assert rows == {
        "shared": ((8, 8), (8, 8)), "depthwise": ((8, 8),), "inner/separable": ((8, 8),),
        "inner/pointwise": ((8, 8),), "sequential/up": ((8, 8),),
    }  # fmt: skip
    open_model = stack(
        keras.layers.Conv2D(4, (3, 1)), keras.Sequential([keras.layers.Conv2D(2, 2)]),
        size=(None, None, 3),
    )  # fmt: skip
    assert plan(open_model).macs is None
    found = plan(open_model, input_shape=(2, 9, 7, 3))
    assert [row.positions for row in found] == [((7, 7),), ((6, 6),)]
    assert found.batch == 2
    two = plan(network, input_shape=[(3, 8, 8, 3), (3, 8, 8, 3)])
    assert (two.batch, two.macs[0] > plan(network).macs[0]) == (3, True)


def test_an_open_batch_is_one():
    model = stack(keras.layers.Conv2D(4, 3))
    one, opened = (plan(model, input_shape=(batch, 8, 8, 3)) for batch in (1, None))
    assert opened.macs == one.macs
    assert str(opened) == str(one)
    assert plan(model, input_shape=(2, None, None, 3)).macs is None


def test_the_axes_are_the_models_own():
    layer = keras.layers.Conv2D(4, 3, data_format="channels_first")
    model = stack(layer, size=(3, 9, 8))
    (row,) = plan(model, input_shape=(1, 3, 9, 8))
    assert row.positions == ((7, 6),)
    (row,) = plan(layer, input_shape=(1, 3, 5, 5))
    assert row.positions == ((3, 3),)


@pytest.mark.parametrize(
    ("data_format", "expected"),
    [("channels_last", (2, 8, 9, 3)), ("channels_first", (2, 3, 8, 9))],
)
def test_the_shape_of_an_image_in_the_models_order(data_format, expected):
    layer = keras.layers.Conv2D(4, 3, data_format=data_format)
    assert in_own_order(stack(layer, size=expected[1:]), (2, 3, 8, 9)) == expected


def test_looking_leaves_no_trace(network, x, numbers, same):
    layer, before = network.get_layer("shared"), numbers(network(x))
    kept, output = set(vars(layer)), layer.output
    plan(network)
    assert set(vars(layer)) == kept
    assert layer.output is output
    assert same(numbers(network(x)), before)


def test_the_table_says_what_becomes_of_each_layer():
    model = keras.applications.MobileNet(weights=None, input_shape=(32, 32, 3), alpha=0.25)
    table = str(plan(model, d_mul=lambda spec: spec.area + 1))
    lines = table.splitlines()
    row = " ".join(lines[lines.index("conv_dw_1") :][:3])  # too long for a line
    assert row.split()[:4] == ["conv_dw_1", "DepthwiseConv2D", "DODepthwiseConv2D,", "d_mul=10"]
    assert "(1) left: a 1 x 1 kernel has nothing to over-parameterize" in lines
    assert "whole model, 14 of 28 convolutions" in table
    assert f" {model.count_params() / 1e3:.0f} k " in table
    assert max(map(len, lines)) <= 80


def test_the_table_of_a_bare_layer_and_of_one_without_variables():
    layer = keras.layers.SeparableConv2D(4, 3)
    assert "(the model)  SeparableConv2D  DOSeparableConv2D" in str(plan(layer))
    layer.build((None, 8, 8, 3))
    assert plan(layer).parameters == 3 * 9 + 3 * 4 + 4


@pytest.mark.parametrize(
    ("where", "names"),
    [
        (choices.first(2), ["shared", "depthwise"]),
        (choices.depthwise(), ["depthwise", "inner/separable"]),
        (choices.kernel_at_least(3), ["shared", "depthwise", "inner/separable"]),
        (~choices.named("^inner/") & ~choices.first(1), ["depthwise", "sequential/up"]),
        (lambda name, layer: getattr(layer, "strides", 1) == (2, 2), ["sequential/up"]),
    ],
)
def test_choices(network, where, names):
    assert converted(network, where) == names


def test_stages_of_a_resnet():
    model = keras.applications.ResNet50(weights=None, input_shape=(32, 32, 3), include_top=False)
    assert converted(model, choices.stages({0}, r"conv([2-5])_block")) == ["conv1_conv"]
    assert converted(model, choices.stages({5}, r"conv([2-5])_block")) == [
        "conv5_block1_2_conv", "conv5_block2_2_conv", "conv5_block3_2_conv",
    ]  # fmt: skip


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("kind", ["functional", "sequential"])
def test_a_fixed_batch_is_counted(kind, nested):
    """Keras does not run through a model whose shapes it has recorded."""
    start = keras.Input(batch_shape=(4, 8, 8, 3))
    layer = keras.layers.Conv2D(6, 3)
    model = keras.Model(start, layer(start)) if kind == "functional" else keras.Sequential(
        [keras.Input(batch_shape=(4, 8, 8, 3)), layer]
    )  # fmt: skip
    if nested:
        outer = keras.Input(batch_shape=(4, 8, 8, 3))
        model = keras.Model(outer, model(outer))
    (row,) = plan(model)
    assert row.positions == ((6, 6),)
    assert plan(model).batch == 4
    assert plan(model).macs[0] == 4 * 36 * 6 * 3 * 9


class Subclassed(keras.Model):
    """A network that only its own code can call, which uses a layer twice."""

    def __init__(self):
        super().__init__()
        self.conv = keras.layers.Conv2D(4, 3, padding="same", name="conv")
        self.up = keras.layers.Conv2DTranspose(2, 2, strides=2, name="up")
        self.head = keras.Sequential([keras.Input((16, 16, 2)), keras.layers.Conv2D(3, 3)])

    def call(self, x):
        return self.head(self.up(self.conv(x) + self.conv(2 * x)))


def test_a_subclassed_model_that_has_been_called():
    model = Subclassed()
    with pytest.raises(DOConvError, match=r"must have its variables.*call it on a batch first"):
        plan(model, door="optimizer", input_shape=(2, 8, 8, 3))
    model(np.zeros((1, 8, 8, 3), "float32"))
    before = [np.array(value) for value in model.get_weights()]
    found = plan(model, door="optimizer", input_shape=(2, 8, 8, 3))
    assert [row.positions for row in found] == [((8, 8), (8, 8)), ((8, 8),), ((14, 14),)]
    assert found.macs[0] == 2 * (2 * 64 * 4 * 27 + 64 * 16 * 2 + 196 * 3 * 18)
    assert "call" not in vars(model.conv)
    for value, after in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(value, after)


def test_what_is_frozen_is_left_by_the_optimizer_and_converted_by_layers(network):
    frozen = "depthwise"
    network.get_layer(frozen).trainable = False
    left = {row.name: row.reason for row in plan(network, door="optimizer").left}
    assert left.pop(frozen) == "it is frozen"
    assert frozen in [row.name for row in plan(network).converted]
    optimizer = DOConvOptimizer(keras.optimizers.SGD(), network)
    optimizer.build(network.trainable_variables)
    trained = [row.name for row in plan(network, door="optimizer").converted]
    assert trained == list(optimizer.kernels)
