"""A ResNet-18 that is converted, and folded, through everything that exports or compiles it."""

import warnings

import onnx
import onnxruntime
import pytest
import timm
import torch
from torch import fx

from do_conv.torch import convert, fold


@pytest.fixture(scope="module")
def models():
    """Plain, converted with D' as training leaves them, and folded."""
    torch.manual_seed(0)
    plain = timm.create_model("resnet18", num_classes=10).eval()
    converted = convert(plain)
    with torch.no_grad():
        for name, parameter in converted.named_parameters():
            if name.endswith("depthwise_delta"):
                parameter.normal_(std=0.05)
    return {"plain": plain, "converted": converted, "folded": fold(converted)}


@pytest.fixture
def image():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


STATES = pytest.mark.parametrize("state", ["converted", "folded"])


def assert_near(found, expected, tolerance=1e-5):
    assert (found - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.fixture(scope="module")
def onnx_files(models, tmp_path_factory):
    """Each model as a file."""
    folder, image = tmp_path_factory.mktemp("onnx"), torch.zeros(2, 3, 32, 32)
    files = {state: str(folder / f"{state}.onnx") for state in models}
    with warnings.catch_warnings():
        # Of the exporter's own code.
        warnings.simplefilter("ignore")
        for state, file in files.items():
            torch.onnx.export(models[state], (image,), file, dynamo=True, verbose=False)
    return files


@STATES
def test_onnx(models, onnx_files, image, state):
    session = onnxruntime.InferenceSession(onnx_files[state])
    (found,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    assert_near(torch.from_numpy(found), models["converted"](image).detach())


def test_a_folded_model_has_the_operators_of_the_plain_one(onnx_files):
    operators = {
        state: [node.op_type for node in onnx.load(file).graph.node]
        for state, file in onnx_files.items()
    }
    assert operators["folded"] == operators["plain"]
    assert len(operators["converted"]) > len(operators["plain"])


@STATES
def test_export(models, image, state):
    program = torch.export.export(models[state], (image,))
    assert torch.equal(program.module()(image), models[state](image))


@STATES
def test_trace(models, image, state):
    traced = torch.jit.trace(models[state], image)
    assert_near(traced(image[:1]), models[state](image[:1]))


@STATES
def test_fx(models, image, state):
    assert torch.equal(fx.symbolic_trace(models[state])(image), models[state](image))


@STATES
def test_compile_as_one_graph(models, image, state):
    compiled = torch.compile(models[state], fullgraph=True, backend="aot_eager")
    assert_near(compiled(image), models[state](image))
