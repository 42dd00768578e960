"""What takes a layer's forward pass apart: compile, export, trace, fx, ONNX."""

import onnxruntime
import pytest
import torch
from torch import fx, nn

from do_conv import DOConvError
from do_conv.torch import DOConv1d, DOConv2d


def outputs_and_gradients(function, layer, x):
    layer.zero_grad()
    x = x.clone().requires_grad_()
    out = function(x)
    out.square().sum().backward()
    return out.detach(), x.grad, *(p.grad.clone() for p in layer.parameters())


def test_compiled_as_one_graph(layer, x):
    # Without code generation: the graphs, and their gradients, are what is looked at.
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    expected = outputs_and_gradients(layer, layer, x)
    for found, wanted in zip(outputs_and_gradients(compiled, layer, x), expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_compiled_with_generated_code(x):
    torch.manual_seed(0)
    layers = [DOConv2d(4, 6, 3), nn.ReLU(), DOConv2d(6, 4, 3, groups=2, composition="feature")]
    network = nn.Sequential(*layers)
    for layer in layers[::2]:
        nn.init.normal_(layer.depthwise_delta, std=0.3)
    expected = outputs_and_gradients(network, network, x)
    compiled = torch.compile(network, fullgraph=True)
    for found, wanted in zip(outputs_and_gradients(compiled, network, x), expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_compiled_for_any_batch(x):
    layer = DOConv2d(4, 6, 3, depthwise_init="he")
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend="aot_eager")
    for batch in (x, x[:1], torch.cat([x, x])):
        torch.testing.assert_close(compiled(batch), layer(batch))


def test_exported_for_any_batch(layer, x):
    dynamic = {0: torch.export.Dim("batch")}
    program = torch.export.export(layer.eval(), (x,), dynamic_shapes=(dynamic,))
    assert set(program.state_dict) == set(layer.state_dict())
    many = torch.cat([x, x, x])
    torch.testing.assert_close(program.module()(many), layer(many))


def test_traced(layer, x):
    traced = torch.jit.trace(layer, x)
    many = torch.cat([x, x, x])
    torch.testing.assert_close(traced(many), layer(many))


def test_traced_by_fx_alone_and_in_a_network(layer, x):
    # A graph takes every argument of `forward`; a transposed layer's second one has to be None.
    alone = {"output_size": None} if isinstance(layer, nn.ConvTranspose2d) else None
    for module, fixed in ((layer, alone), (nn.Sequential(nn.ReLU(), layer), None)):
        traced = fx.symbolic_trace(module, fixed)
        assert torch.equal(traced(x), module(x))
        # Autocast is what surrounds a graph when it runs, not when it is made.
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(traced(x), module(x))


def test_a_graph_of_fx_names_the_composition():
    traced = fx.symbolic_trace(DOConv2d(4, 6, 3, groups=2))
    functions = [node for node in traced.graph.nodes if node.op == "call_function"]
    assert [node.name for node in functions] == ["compose", "conv2d"]
    assert functions[0].args[2] == 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("folded", [False, True])
def test_onnx(kind, x, folded, tmp_path):
    torch.manual_seed(5)
    layer = kind(composition="kernel").eval()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.3)
    file = str(tmp_path / "layer.onnx")
    exported = layer.fold() if folded else layer
    dynamic = {"dynamic_shapes": ({0: torch.export.Dim("batch")},)}
    torch.onnx.export(exported, (x,), file, dynamo=True, verbose=False, **dynamic)
    session = onnxruntime.InferenceSession(file)
    many = torch.cat([x, x, x])
    (found,) = session.run(None, {session.get_inputs()[0].name: many.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), layer(many).detach())


@pytest.mark.parametrize("options", [{}, {"groups": 2}, {"d_mul": 7}])
def test_compiled_complex_layers(options):
    torch.manual_seed(0)
    layer = DOConv1d(4, 6, 3, dtype=torch.complex64, **options)
    nn.init.normal_(layer.depthwise_delta, std=0.3)
    # Inductor makes no code of complex numbers, and may warn of it.
    compiled = torch.compile(layer, backend="aot_eager")
    x = torch.randn(2, 4, 8, dtype=torch.complex64)
    gradients = []
    for function in (layer, compiled):
        layer.zero_grad()
        function(x).abs().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in layer.parameters()])
    for eager, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found, eager, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["weight", "depthwise_delta"])
def test_exception_a_parameter_of_other_sizes(name, x):
    layer = DOConv2d(4, 6, 3)
    parameter = getattr(layer, name)
    setattr(layer, name, nn.Parameter(parameter.detach()[:, :1].clone()))
    with pytest.raises(DOConvError, match=r"must have shape .*; received shape \(\d, 1, 3, 3\)"):
        layer(x)
