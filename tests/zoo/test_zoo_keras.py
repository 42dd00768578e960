"""keras.applications and KerasHub: converted to the last bit, trained, folded."""

import re

import keras
import numpy as np
import pytest

from do_conv import DOConvError
from do_conv.tf import convert, fold, plan, verify

STEPS = 5
# Looked at each time: ordinary, depthwise, and separable convolutions.
QUICK = {"ResNet50", "MobileNet", "Xception"}
NETWORKS = [name for name, one in vars(keras.applications).items() if callable(one)]
# As small as each takes; 32 for all others. There the gradients of EfficientNetV2L overflow.
SIZES = {"InceptionResNetV2": 75, "InceptionV3": 75, "Xception": 71, "EfficientNetV2L": 96}
# In so many layers of random weights gradients grow by more than float32 spans, so that clipped by
# their norm the smallest are zero.
CLIPPED_BY_VALUE = {"EfficientNetB6", "EfficientNetB7", "EfficientNetV2M"}


# Backbones of KerasHub, small.
HUB = {
    "DenseNetBackbone": {"stackwise_num_repeats": [2, 2]},
    "ResNetBackbone": {
        "input_conv_filters": [64], "input_conv_kernel_sizes": [7],
        "stackwise_num_filters": [64, 64], "stackwise_num_blocks": [2, 2],
        "stackwise_num_strides": [1, 2], "block_type": "basic_block",
    },
    "VGGBackbone": {"stackwise_num_repeats": [1, 2], "stackwise_num_filters": [8, 16]},
    "XceptionBackbone": {
        "stackwise_conv_filters": [[32, 64], [64, 128]], "stackwise_pooling": [True, False],
    },
}  # fmt: skip


def entries():
    for name in NETWORKS:
        marks = () if name in QUICK else (pytest.mark.slow_network,)
        yield pytest.param(name, id=f"keras-{name}", marks=marks)


def network(name, shape):
    make = getattr(keras.applications, name)
    return make(weights=None, input_shape=shape, classes=10, classifier_activation=None)


def sum_of_squares(_, outputs):
    return keras.ops.sum(outputs**2)


def variables(model):
    # A variable without a name, as in ConvNeXt's `LayerScale`, is numbered through the process.
    return [(re.sub(r"variable_\d+$", "variable", v.path), tuple(v.shape)) for v in model.weights]


def test_the_zoo_is_complete():
    assert len(NETWORKS) == 40
    assert set(NETWORKS) >= QUICK | set(SIZES) | CLIPPED_BY_VALUE


@pytest.mark.parametrize("name", list(entries()))
def test_converted_trained_and_folded(name, zoo_row):
    keras.utils.set_random_seed(0)
    size = SIZES.get(name, 32)
    check("keras", name, network(name, (size, size, 3)), size, zoo_row)


@pytest.mark.slow_network
@pytest.mark.parametrize("name", HUB)
def test_a_backbone_of_keras_hub(name, zoo_row):
    hub = pytest.importorskip("keras_hub", reason="KerasHub is not installed: make test-zoo")
    keras.utils.set_random_seed(0)
    backbone = getattr(hub.models, name)(**HUB[name], image_shape=(64, 64, 3))
    with pytest.raises(DOConvError, match="a class with code of its own"):
        convert(backbone)
    inside = keras.Model(backbone.input, backbone.output)
    check("keras-hub", name, inside, 64, zoo_row)


def check(zoo, name, plain, size, zoo_row):
    x = np.random.default_rng(0).standard_normal((2, size, size, 3)).astype("float32")
    planned = plan(plain)
    model = convert(plain)
    converting = verify(plain, model, x, tolerance=0)

    clipped = {"clipvalue" if name in CLIPPED_BY_VALUE else "clipnorm": 1.0}
    model.compile(keras.optimizers.SGD(1e-2, **clipped), sum_of_squares, jit_compile=False)
    model.fit(x, np.zeros(2), batch_size=2, epochs=STEPS, verbose=0)
    deltas = [v for v in model.trainable_variables if v.name == "depthwise_delta"]
    assert len(deltas) == len(planned.converted)
    assert all(abs(keras.ops.convert_to_numpy(v)).max() > 0 for v in deltas)

    folded = fold(model)
    folding = verify(model, folded, x)
    assert [type(one) for one in folded.layers] == [type(one) for one in plain.layers]
    assert [one.name for one in folded.layers] == [one.name for one in plain.layers]
    assert variables(folded) == variables(plain)
    left = len(planned.left)
    zoo_row(
        **{"zoo": zoo, "network": name, "converted": len(planned.converted), "left": left},
        **{"after converting": converting, "after training and folding": folding},
    )
