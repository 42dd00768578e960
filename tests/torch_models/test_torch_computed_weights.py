"""Networks with weights that hooks compute before each forward pass: pruning, the old norms."""

import copy
import warnings

import pytest
import torch
from timm.layers import StdConv2d
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from do_conv import DOConvError
from do_conv.torch import DOConv2d, convert, fold, folded_state_dict, over_parameterize, verify

NOTICED = r"must be the kernel that is applied; received a {} whose W is computed from {}; fold"


def pruned(layer):
    return prune.l1_unstructured(layer, "weight", 0.5)


def pruned_twice(layer):
    return prune.random_unstructured(pruned(layer), "weight", 0.5)


def old_weight_norm(layer):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(layer)


def pruned_delta(layer):
    return prune.l1_unstructured(layer, "depthwise_delta", 0.5)


def parametrized_delta(layer):
    parametrize.register_parametrization(layer, "depthwise_delta", nn.Tanh())
    return layer


COMPUTED = [
    pytest.param(pruned, "weight_orig", id="pruned"),
    pytest.param(pruned_twice, "weight_orig", id="pruned-twice"),
    pytest.param(old_weight_norm, "weight_v", id="old-weight-norm"),
    pytest.param(nn.utils.spectral_norm, "weight_orig", id="old-spectral-norm"),
    pytest.param(parametrizations.weight_norm, "parametrizations.weight", id="weight-norm"),
    pytest.param(parametrizations.spectral_norm, "parametrizations.weight", id="spectral-norm"),
    pytest.param(parametrizations.orthogonal, "parametrizations.weight", id="orthogonal"),
]
ignored = pytest.mark.filterwarnings("ignore:a weight that is pruned:UserWarning")


@pytest.mark.parametrize(("wrap", "_source"), COMPUTED)
@pytest.mark.parametrize("training", [True, False])
def test_a_network_with_such_a_layer_is_copied(wrap, _source, training, x, trained):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), wrap(nn.Conv2d(8, 4, 3))).train(training)
    network(x).square().mean().backward()  # leaves a weight with a gradient function
    model = convert(network)
    assert type(model[0]) is DOConv2d
    assert verify(network, model, x) == 0
    folded = fold(trained(model))
    assert verify(model, folded, x) == 0
    model(x).square().mean().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in model.parameters())


@ignored
@pytest.mark.parametrize(("wrap", "_source"), COMPUTED)
@pytest.mark.parametrize("inplace", [True, False])
def test_one_of_our_layers_folds_with_the_weights_of_the_last_step(wrap, _source, inplace, x):
    torch.manual_seed(0)
    model = nn.Sequential(wrap(DOConv2d(3, 4, 3, depthwise_init="he"))).eval()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    model(x).square().mean().backward()
    optimizer.step()
    state, folded = folded_state_dict(model), fold(copy_of(model), inplace=inplace)
    expected = model(x)
    assert type(folded[0]) is nn.Conv2d
    assert torch.equal(folded(x), expected)
    assert torch.equal(state["0.weight"], folded[0].weight)
    assert not any(parameter.grad is not None for parameter in (folded[0].weight,))


def copy_of(model):
    """A copy; PyTorch makes one of a computed weight where it has no gradient function."""
    with torch.no_grad():
        for module in model.modules():
            for hook in module._forward_pre_hooks.values():
                hook(module, None)
    return copy.deepcopy(model)


@ignored
def test_a_pruned_layer_with_a_forward_pass_of_its_own_folds(x, trained):
    layer = pruned(trained(convert(StdConv2d(3, 4, 3))))
    expected = layer(x)
    folded = fold(layer)
    assert type(folded) is StdConv2d
    assert torch.equal(folded(x), expected)


def test_tensors_in_the_attributes_of_a_network_are_copied(x):
    class Watching(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, given):
            self.seen = {"features": [self.conv(given)]}
            return self.seen["features"][0].relu()

    network = Watching()
    network(x)
    model = convert(network)
    assert torch.equal(model.seen["features"][0], network.seen["features"][0])
    assert verify(network, model, x) == 0


@pytest.mark.parametrize(("wrap", "source"), COMPUTED)
def test_warning_the_forward_pass_tells_that_w_is_computed(wrap, source, x):
    layer = wrap(DOConv2d(3, 4, 3))
    kind = type(layer).__name__
    with pytest.warns(UserWarning, match=NOTICED.format(kind, source)):
        layer(x)
    for composition in ("kernel", "feature"):
        layer.composition = composition
        with pytest.warns(UserWarning, match="must be the kernel that is applied"):
            layer(x)


def test_warning_a_converted_layer_with_a_forward_pass_of_its_own(x):
    layer = pruned(convert(StdConv2d(3, 4, 3)))
    with pytest.warns(UserWarning, match="a DOStdConv2d whose W is computed from weight_orig"):
        layer(x)


def test_exception_a_parametrization_of_a_layer_with_a_forward_pass_of_its_own(x):
    layer = parametrizations.weight_norm(convert(StdConv2d(3, 4, 3)))
    match = "must not be parametrized; received a ParametrizedDOStdConv2d .*over_parameterize"
    with pytest.raises(DOConvError, match=match):
        layer(x)


@ignored
def test_what_is_computed_is_compiled_as_one_graph(x):
    layer = parametrizations.weight_norm(DOConv2d(3, 4, 3, depthwise_init="he"))
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), layer(x))


def test_a_bias_or_a_delta_that_is_computed_is_not_meant(x):
    prune.random_unstructured(layer := DOConv2d(3, 4, 3), "bias", 0.5)
    layer(x)


def sigma(kernel):
    return torch.linalg.matrix_norm(kernel.detach().flatten(1), 2).item()


@ignored
@pytest.mark.parametrize("norm", [parametrizations.spectral_norm, nn.utils.spectral_norm])
def test_what_spectral_norm_bounds(norm, x):
    """W of a layer of ours, and the kernel of a layer that is over-parameterized first."""
    torch.manual_seed(0)
    layer = norm(DOConv2d(8, 8, 3, depthwise_init="he"), n_power_iterations=50)
    layer(torch.zeros(1, 8, 5, 5))
    assert sigma(layer.weight) == pytest.approx(1, abs=1e-3)
    assert sigma(layer.composed_weight()) > 1.2
    folded = fold(layer)
    assert sigma(folded.weight) > 1.2

    first = over_parameterize(nn.Conv2d(8, 8, 3), depthwise_init="he")
    parametrizations.spectral_norm(first, n_power_iterations=50)
    first(torch.zeros(1, 8, 5, 5))
    assert sigma(first.weight) == pytest.approx(1, abs=1e-3)
    assert sigma(fold(first).weight) == pytest.approx(1, abs=1e-3)


def test_a_parametrization_of_ones_own_finds_the_kernel(x):
    layer = over_parameterize(nn.Conv2d(3, 4, 3), depthwise_init="he")
    kernel = layer.weight.detach()
    parametrize.register_parametrization(layer, "weight", nn.Tanh())
    assert torch.equal(layer.weight, kernel.tanh())
    assert torch.equal(fold(layer).weight, kernel.tanh())


def test_the_kernel_of_a_layer_with_weight_norm_keeps_its_d(x, trained):
    """W is normalised; PyTorch cannot put `weight_norm` over another parametrization."""
    other = parametrizations.weight_norm(over_parameterize(nn.Conv2d(3, 4, 3)))
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        other(x)
    layer = over_parameterize(parametrizations.weight_norm(nn.Conv2d(3, 4, 3)), depthwise_init="he")
    expected = layer(x)
    assert torch.equal(fold(layer)(x), expected)


@ignored
@pytest.mark.parametrize("wrap", [pruned_delta, parametrized_delta])
@pytest.mark.parametrize("inplace", [True, False])
def test_a_delta_that_is_computed_folds(wrap, inplace, x):
    model = nn.Sequential(wrap(DOConv2d(3, 4, 3, depthwise_init="he")))
    expected = model(x)
    assert torch.equal(fold(model, inplace=inplace)(x), expected)


@ignored
def test_pruning_whole_output_channels_before_folding_is_right(x):
    layer = DOConv2d(3, 8, 3, depthwise_init="he")
    prune.ln_structured(layer, "weight", 0.5, n=2, dim=0)
    layer(x)
    zero = (fold(layer).weight.flatten(1) == 0).all(1)
    assert zero.sum() == 4
    prune.l1_unstructured(other := DOConv2d(3, 8, 3, depthwise_init="he"), "weight", 0.5)
    assert (fold(other).weight != 0).all()
