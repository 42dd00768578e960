"""Layers that share parameters, whatever framework they are of."""

from do_conv.models.sharing import composed_kernels, sharing


class Layer:
    """A framework's layer."""


def ours(weight, delta):
    layer = Layer()
    layer.weight, layer.depthwise_delta = weight, delta
    return layer


def kernels(layers, others=()):
    """The places of the layers that share each kernel, and whether W may become the kernel."""
    holders = [(layer, [layer.weight, layer.depthwise_delta]) for layer in layers]
    holders += [(Layer(), [parameter]) for parameter in others]
    groups = composed_kernels(layers, holders)
    return [([layers.index(layer) for layer in group], may_change) for group, may_change in groups]


def test_layers_are_grouped_by_the_parameters_they_share():
    layers = [ours("W", "D"), ours("V", "D"), ours("W", "E")]
    assert sharing(layers, "weight") == [[layers[0], layers[2]], [layers[1]]]
    assert sharing(layers, "weight", "depthwise_delta") == [[layer] for layer in layers]


def test_layers_that_share_w_and_delta_share_a_kernel():
    assert kernels([ours("W", "D"), ours("V", "E"), ours("W", "D")]) == [
        ([0, 2], True),
        ([1], True),
    ]


def test_a_weight_with_two_deltas_stays():
    assert kernels([ours("W", "D"), ours("W", "E")]) == [([0], False), ([1], False)]


def test_a_weight_that_another_layer_reads_stays():
    assert kernels([ours("W", "D"), ours("V", "E")], others=["W"]) == [([0], False), ([1], True)]


def test_a_layer_without_a_delta_has_no_composed_kernel():
    assert kernels([ours("W", None), ours("V", "D")]) == [([1], True)]
