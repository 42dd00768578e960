"""GluonCV's networks: converted to the last bit, trained, and folded."""

import do_conv.gluon  # noqa: F401 - before mxnet, which reads names that this module restores

# isort: split
import importlib
import warnings

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon

from do_conv.gluon import convert, fold, plan
from do_conv.gluon.models.structure import named_layers
from do_conv.zoo import import_gluoncv

STEPS = 5
# The first few are looked at each time.
QUICK = {
    "cifar_resnet20_v1", "mobilenet0.25", "mobilenetv3_small", "resnet18_v1b",
    "ssd_300_mobilenet0.25_voc",
}  # fmt: skip
CLASSIFIERS = [
    "cifar_resnet20_v1", "cifar_resnet20_v2", "cifar_resnext29_32x4d", "cifar_wideresnet16_10",
    "resnet18_v1", "resnet18_v1b", "resnet18_v2", "resnet50_v1", "resnet50_v1b", "resnet50_v1d",
    "resnet50_v2", "se_resnet18_v1", "se_resnet18_v2", "resnext50_32x4d", "se_resnext50_32x4d",
    "mobilenet0.25", "mobilenet1.0", "mobilenetv2_0.25", "mobilenetv2_1.0", "mobilenetv3_small",
    "mobilenetv3_large", "densenet121", "vgg11", "vgg11_bn", "inceptionv3", "googlenet",
    "squeezenet1.1", "alexnet", "darknet53", "xception", "dla34", "resnest14",
    "hrnet_w18_small_v1_c", "shufflenet_v2", "residualattentionnet56",
]  # fmt: skip
SEGMENTATION = ["deeplab_resnet50_ade", "fcn_resnet50_ade", "psp_resnet50_ade"]
DETECTION = [
    "ssd_300_mobilenet0.25_voc", "ssd_300_resnet34_v1b_voc", "ssd_300_vgg16_atrous_voc",
    "ssd_512_resnet18_v1_voc", "yolo3_mobilenet0.25_voc", "yolo3_darknet53_voc",
    "center_net_resnet18_v1b_voc", "center_net_dla34_voc", "faster_rcnn_resnet50_v1b_voc",
    "faster_rcnn_fpn_resnet50_v1b_coco", "simple_pose_resnet18_v1b",
]  # fmt: skip
# In training it gives losses; as in evaluation it gives boxes. MXNet cannot differentiate through
# the search for boxes of the other detectors: they are run in training, where they give what is
# before it. Two-stage detectors then choose places by the boxes that are to be found. PLACES, as
# many as these sample, are enough; of one with a pyramid GluonCV reads places that were not written
# if there are fewer than by default.
GIVES_LOSSES = "yolo3"
PLACES = {"faster_rcnn_resnet50_v1b_voc": 130}
BOXES = (mx.nd.array([[[8, 8, 40, 40], [16, 24, 60, 56]]]), mx.nd.array([[[1], [2]]]))
# Where two images of 64 x 64 are too small.
SHAPES = {
    "inceptionv3": (1, 3, 299, 299),
    "googlenet": (1, 3, 224, 224),
    "densenet121": (1, 3, 224, 224),
    "squeezenet1.1": (1, 3, 224, 224),
    "residualattentionnet56": (1, 3, 224, 224),
    "ssd_300_resnet34_v1b_voc": (1, 3, 300, 300),
    "ssd_300_vgg16_atrous_voc": (1, 3, 300, 300),
    "faster_rcnn_resnet50_v1b_voc": (1, 3, 96, 96),
    "faster_rcnn_fpn_resnet50_v1b_coco": (1, 3, 128, 128),
}


class Start(mx.init.Xavier):
    """Xavier's, and ones for what has no start of its own inside a graph, such as a gamma."""

    def _init_weight(self, name, array):
        if array.ndim < 2:
            array[:] = 1
        else:
            super()._init_weight(name, array)


@pytest.fixture(scope="module")
def zoo():
    """A function that makes a network."""
    if importlib.util.find_spec("gluoncv") is None:
        pytest.skip("GluonCV is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model_zoo = import_gluoncv()
    return lambda name, **options: model_zoo.get_model(name, pretrained=False, **options)


def entries():
    for name in CLASSIFIERS + SEGMENTATION + DETECTION:
        marks = () if name in QUICK else (pytest.mark.slow_network,)
        yield pytest.param(name, marks=marks)


def arrays(out):
    """The arrays a network gives: one, several, or nested ones."""
    return [out] if isinstance(out, mx.nd.NDArray) else [a for one in out for a in arrays(one)]


def run(model, x):
    return [out.asnumpy() for out in arrays(model(x))]


def worst(found, expected):
    pairs = list(zip(found, expected, strict=True))
    return max(float(np.abs(a - b).max() / (np.abs(b).max() or 1)) for a, b in pairs)


def names(model):
    return [(n, p.name, p.shape) for n, p in model._collect_params_with_prefix().items()]


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("name", list(entries()))
def test_converted_trained_and_folded(name, zoo, zoo_row):
    mx.random.seed(0)
    options = {} if name in CLASSIFIERS else {"pretrained_base": False}
    if name in SEGMENTATION:
        options["crop_size"] = 64
    plain = zoo(name, **options)
    plain.initialize(Start())
    x = mx.nd.random.normal(shape=SHAPES.get(name, (2, 3, 64, 64)))
    boxes = BOXES if "rcnn" in name else ()
    if name in PLACES:
        rpn, places = plain.rpn, PLACES[name]
        rpn._train_post_nms = rpn._test_post_nms = plain._rpn_test_post_nms = places
    with autograd.train_mode():  # moves the running averages
        plain(x, *boxes)
    before = run(plain, x)
    planned = plan(plain)
    model = convert(plain)
    converting = worst(run(model, x), before)
    assert converting == 0

    trainer = gluon.Trainer(model.collect_params(), "sgd", {"learning_rate": 1e-3})
    for _ in range(STEPS):
        with autograd.record(train_mode=not name.startswith(GIVES_LOSSES)):
            outputs = arrays(model(x, *boxes))
            loss = sum((out / (1 + out.detach().abs().max())).square().mean() for out in outputs)
        loss.backward()
        trainer.step(1, ignore_stale_grad=True)
    mx.nd.waitall()
    # Of some networks a part is not used in this pass; of all others every D moves.
    deltas = model.collect_params(".*depthwise_delta").values()
    trained = [p for p in deltas if p.grad().asnumpy().any()]
    assert all(p.data().asnumpy().any() for p in trained)
    assert trained

    folded = fold(model)
    after = run(model, x)
    folding = worst(run(folded, x), after)
    assert folding <= 1e-5
    assert worst(after, before) > 0
    blocks = [[(n, type(block)) for n, block in named_layers(one)] for one in (folded, plain)]
    assert blocks[0] == blocks[1]
    assert names(folded) == names(plain)
    assert list(folded.collect_params()) == list(plain.collect_params())
    zoo_row(
        **{"zoo": "gluoncv", "network": name, "converted": len(planned.converted)},
        **{"left": len(planned.left), "after converting": converting},
        **{"after training and folding": folding},
    )
