"""torchvision's detection networks: converted to the last bit, trained, folded to the last bit."""

from cpu_torchvision import torchvision  # isort: skip
import pytest
import torch

from do_conv.torch import DOConvOptimizer, convert, fold, plan

pytestmark = [
    pytest.mark.slow_network,
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning"),
]
STEPS = 2
NETWORKS = [
    "fasterrcnn_mobilenet_v3_large_320_fpn", "fcos_resnet50_fpn", "maskrcnn_resnet50_fpn",
    "retinanet_resnet50_fpn", "ssd300_vgg16", "ssdlite320_mobilenet_v3_large",
]  # fmt: skip
FEW = {f"rpn_{when}_nms_top_n_{mode}": 50 for when in ("pre", "post") for mode in ("train", "test")}
IMAGES = (3, 64, 80), (3, 72, 64)


def network(name):
    # Two-stage detectors look at few places, and detectors of a fixed size have no other.
    options = {} if name.startswith("ssd") else {"min_size": 64, "max_size": 96}
    options |= FEW if "rcnn" in name else {}
    return torchvision.models.get_model(
        name, weights=None, weights_backbone=None, num_classes=5, **options
    )


def targets():
    """Two objects in each image: boxes, masks and key points."""
    boxes = torch.tensor([[8.0, 8, 40, 40], [16, 24, 60, 56]])
    for _, height, width in IMAGES:
        masks = torch.zeros(2, height, width, dtype=torch.uint8)
        masks[:, 10:30] = 1
        points = torch.full((2, 17, 3), 20.0)
        yield {
            "boxes": boxes, "labels": torch.tensor([1, 2]), "masks": masks, "keypoints": points,
        }  # fmt: skip


def run(model, images):
    """The boxes, scores and so on that are found in each image."""
    with torch.no_grad():
        return [tensor for one in model.eval()(images) for tensor in one.values()]


def are_equal(found, expected):
    return all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


def train(model, images):
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    for _ in range(STEPS):
        optimizer.zero_grad()
        sum(model(images, list(targets())).values()).backward()
        optimizer.step()
    model.eval()


def worst(found, expected):
    return max(
        ((a - b).abs().max() / b.abs().max()).item() for a, b in zip(found, expected, strict=True)
    )


def resized(model, images):
    """The batch that the backbone gets: the network chooses its size."""
    return model.transform(images)[0].tensors[:1]


def features(model, images):
    """What the backbone gives the heads, for the first image."""
    with torch.no_grad():
        return list(model.backbone(resized(model, images)).values())


@pytest.fixture
def without_compiling():
    """Where its operator is absent, torchvision compiles a `roi_align` in Python, for minutes."""
    with torch.compiler.set_stance("force_eager"):
        yield


@pytest.mark.usefixtures("without_compiling")
@pytest.mark.parametrize("name", NETWORKS)
def test_converted_trained_and_folded(name, zoo_row):
    torch.manual_seed(0)
    plain = network(name).eval()
    images = [torch.rand(shape) for shape in IMAGES]
    before = run(plain, images)
    planned = plan(plain)
    model = convert(plain)
    converting = worst(features(model, images), features(plain, images))
    assert converting == 0
    assert are_equal(run(model, images), before)
    kernels = DOConvOptimizer(torch.optim.SGD(plain.parameters(), 0.1), plain).kernels
    assert set(kernels) == {row.name for row in planned.converted}

    train(model, images)
    deltas = [p for n, p in model.named_parameters() if n.endswith("depthwise_delta")]
    # A normalization over two positions gives the layers before it no gradient.
    trained = [p for p in deltas if p.grad is not None and p.grad.any()]
    assert all(p.any() for p in trained)
    assert len(trained) > len(deltas) / 2
    folded = fold(model)
    folding = worst(features(folded, images), features(model, images))
    assert folding == 0
    assert are_equal(run(folded, images), run(model, images))
    assert [type(one) for one in folded.modules()] == [type(one) for one in plain.modules()]
    assert [(n, p.shape) for n, p in folded.state_dict().items()] == [
        (n, p.shape) for n, p in plain.state_dict().items()
    ]
    # The search for boxes depends on the data: PyTorch exports what is before it.
    given = resized(folded, images)
    exported = torch.export.export(folded.backbone, (given,)).module()
    assert worst(list(exported(given).values()), features(folded, images)) == 0
    zoo_row(
        **{"zoo": "torchvision", "network": name, "converted": len(planned.converted)},
        **{"left": len(planned.left), "after converting": converting},
        **{"after training and folding": folding},
    )
