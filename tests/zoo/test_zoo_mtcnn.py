"""A face detector of which two packages ship the same trained weights: in PyTorch and in Keras.

facenet-pytorch and mtcnn have the three networks of MTCNN. Both are converted, fine-tuned for a
step and folded; the weights go from one framework to the other; and the faces that each package
finds in photographs stay where they were.
"""

from cpu_torchvision import torchvision  # noqa: F401  # isort: skip  # before facenet_pytorch
import pytest

pytest.importorskip("facenet_pytorch")
pytest.importorskip("mtcnn")
pytest.importorskip("lz4")
pytest.importorskip("skimage")

import facenet_pytorch
import keras
import mtcnn
import numpy as np
import skimage.data
import torch

import do_conv.tf
import do_conv.torch
from do_conv import checkpoints

pytestmark = [
    pytest.mark.slow_network,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning"),
]
# The names that differ: mtcnn's for facenet-pytorch's.
NAMES = {
    "pnet": {"conv4-1": "conv4_2", "conv4-2": "conv4_1"},
    "rnet": {"fc4": "dense4", "fc5-1": "dense5_2", "fc5-2": "dense5_1"},
    "onet": {"fc5": "dense5", "fc6-1": "dense6_2", "fc6-2": "dense6_3", "fc6-3": "dense6_1"},
}
SIZES = {"pnet": (48, 64), "rnet": (24, 24), "onet": (48, 48)}
CONVERTED = {"pnet": 3, "rnet": 3, "onet": 4}
RATE = 1e-4


def photographs():
    return [skimage.data.astronaut(), skimage.data.cat(), skimage.data.coffee()]


def inputs(name):
    """Parts of a photograph around the face, as the networks take them, channels last."""
    height, width = SIZES[name]
    image = skimage.data.astronaut().astype("float32")
    corners = [(60, 180), (80, 200), (100, 190), (20, 300)]
    return np.stack([(image[y : y + height, x : x + width] - 127.5) / 128 for y, x in corners])


def channels_first(x):
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


def in_torch():
    return facenet_pytorch.MTCNN(keep_all=True)


def in_keras():
    return mtcnn.MTCNN()


def stages(detector):
    return dict(zip(NAMES, detector.stages, strict=True))


def faces(detector):
    """The boxes, probabilities and landmarks that a detector finds in each photograph."""
    if isinstance(detector, mtcnn.MTCNN):
        return [detector.detect_faces(image) for image in photographs()]
    found = [detector.detect(image, landmarks=True) for image in photographs()]
    return [None if one[0] is None else [np.array(a).tolist() for a in one] for one in found]


def outputs(network, name):
    """The outputs of a network in the order of facenet-pytorch: channels last."""
    x = inputs(name)
    if isinstance(network, torch.nn.Module):
        with torch.no_grad():
            out = [one.numpy() for one in network.eval()(channels_first(x))]
        return [one.transpose(0, 2, 3, 1) if one.ndim == 4 else one for one in out]
    return [np.array(one) for one in network(x)]


def worst(found, expected):
    pairs = list(zip(found, expected, strict=True))
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs)


def step(network, name, make=lambda network, optimizer: optimizer):
    """A step of fine-tuning, whose loss asks all outputs for other values; the optimizer."""
    optimizer = make(network, torch.optim.SGD(network.parameters(), RATE))
    optimizer.zero_grad()
    out = network.train()(channels_first(inputs(name)))
    sum((one - 0.5).square().mean() for one in out).backward()
    optimizer.step()
    network.eval()
    return optimizer


def by_optimizer(network, optimizer):
    return do_conv.torch.DOConvOptimizer(optimizer, network)


def functional(network, name):
    """A network of the same layers, which can be rebuilt: theirs has code of its own."""
    first = keras.Input((*((None, None) if name == "pnet" else SIZES[name]), 3))
    return keras.Model(first, network.call(first))


def fit(network, name, optimizer):
    x = inputs(name)
    targets = [np.full(np.shape(out), 0.5, "float32") for out in network(x)]
    network.compile(optimizer, ["mse"] * len(targets), jit_compile=False)
    network.fit(x, targets, batch_size=len(x), verbose=0)


def test_a_face_is_found():
    found = faces(in_torch()), faces(in_keras())
    counts = [[0 if one is None else len(one[0]) for one in found[0]], [*map(len, found[1])]]
    assert counts == [[1, 0, 0], [1, 0, 0]]
    x, y, width, height = found[1][0][0]["box"]
    np.testing.assert_allclose(found[0][0][0][0], (x, y, x + width, y + height), atol=8)


def test_pytorch(zoo_row):
    detector, before = in_torch(), faces(in_torch())
    planned = do_conv.torch.plan(detector)
    assert len(planned.converted) == sum(CONVERTED.values())
    model = do_conv.torch.convert(detector)
    assert faces(model) == before
    nets = {name: (getattr(model, name), getattr(detector, name)) for name in NAMES}
    converting = max(worst(*(outputs(one, name) for one in nets[name])) for name in NAMES)
    assert converting == 0

    for name in NAMES:
        step(getattr(model, name), name)
    assert all(p.any() for n, p in model.named_parameters() if n.endswith("depthwise_delta"))
    folded = do_conv.torch.fold(model)
    assert [type(one) for one in folded.modules()] == [type(one) for one in detector.modules()]
    assert list(folded.state_dict()) == list(detector.state_dict())
    pairs = [[outputs(getattr(one, name), name) for one in (folded, model)] for name in NAMES]
    folding = max(worst(*pair) for pair in pairs)
    assert folding == 0
    assert faces(folded) == faces(model) != before

    plain = in_torch()
    for name in NAMES:
        step(getattr(plain, name), name, by_optimizer)
    expected = folded.state_dict()
    for key, tensor in plain.state_dict().items():
        torch.testing.assert_close(tensor, expected[key], rtol=0, atol=1e-6)
    zoo_row(
        **{"zoo": "facenet-pytorch", "network": "MTCNN", "converted": len(planned.converted)},
        **{"left": len(planned.left), "after converting": converting},
        **{"after training and folding": folding},
    )


def test_keras(zoo_row):
    detector, plain, others = in_keras(), in_keras(), in_keras()
    before, counts, differences = faces(detector), [], []
    for (name, stage), other in zip(stages(detector).items(), others.stages, strict=True):
        network = functional(stage.model, name)
        planned = do_conv.tf.plan(network)
        counts.append((len(planned.converted), len(planned.left)))
        stage._model = model = do_conv.tf.convert(network)
        differences.append(worst(outputs(model, name), outputs(network, name)))
        optimizer = do_conv.tf.DOConvOptimizer(keras.optimizers.SGD(RATE), other.model)
        fit(other.model, name, optimizer)
    assert faces(detector) == before
    assert [count for count, _ in counts] == list(CONVERTED.values())

    folding = []
    for (name, stage), first, other in zip(
        stages(detector).items(), plain.stages, others.stages, strict=True
    ):
        fit(stage.model, name, keras.optimizers.SGD(RATE))
        folded = do_conv.tf.fold(stage.model)
        folding.append(worst(outputs(folded, name), outputs(stage.model, name)))
        assert [type(one) for one in folded.layers[1:]] == [type(one) for one in first.model.layers]
        first.model.set_weights(folded.get_weights())
        assert worst(other.model.get_weights(), folded.get_weights()) <= 1e-6
    after = faces(plain)
    assert after == faces(detector) != before
    zoo_row(
        **{"zoo": "mtcnn", "network": "MTCNN", "converted": sum(c for c, _ in counts)},
        **{"left": sum(left for _, left in counts), "after converting": max(differences)},
        **{"after training and folding": max(folding)},
    )


@pytest.mark.parametrize("name", NAMES)
def test_weights_go_from_keras_to_pytorch(name, tmp_path):
    """Into a plain network and a converted one, which have random weights before."""
    source = stages(in_keras())[name].model
    checkpoints.save(source, tmp_path / "keras.safetensors")
    shipped = getattr(in_torch(), name)
    make = getattr(facenet_pytorch, type(shipped).__name__)
    for model in (make(pretrained=False), do_conv.torch.convert(make(pretrained=False))):
        checkpoints.load(model, tmp_path / "keras.safetensors", match=NAMES[name])
        found = model.state_dict()
        assert all(torch.equal(found[key], one) for key, one in shipped.state_dict().items())
        assert worst(outputs(model, name), outputs(shipped, name)) == 0


@pytest.mark.parametrize("make", [do_conv.torch.convert, lambda network: network])
def test_trained_weights_go_from_pytorch_to_keras(make, tmp_path):
    """From layers, and W and D' from an optimizer; Keras finds the same faces by both."""
    trained, converted, plain = in_torch(), in_keras(), in_keras()
    for (name, stage), other in zip(stages(converted).items(), plain.stages, strict=True):
        source = make(getattr(trained, name))
        is_plain = source is getattr(trained, name)
        optimizer = step(source, name, by_optimizer if is_plain else lambda _, one: one)
        path, names = tmp_path / f"{name}.safetensors", {b: a for a, b in NAMES[name].items()}
        checkpoints.save(optimizer if is_plain else source, path)
        expected = outputs(source, name)
        assert worst(outputs(other.model, name), expected) > 1e-4

        stage._model = do_conv.tf.convert(functional(stage.model, name))
        for network in (stage.model, other.model):
            checkpoints.load(network, path, match=names)
            assert worst(outputs(network, name), expected) < 1e-5
        delta = np.array(stage.model.get_layer("conv1").depthwise_delta).transpose(2, 3, 0, 1)
        own = optimizer.kernels["conv1"].delta if is_plain else source.conv1.depthwise_delta
        assert np.array_equal(delta, own.detach().numpy())
        assert delta.any()
    assert faces(converted) == faces(plain) != faces(in_keras())
