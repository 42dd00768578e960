"""The names users rely on: one that disappears is a breaking change."""

import importlib
import inspect
import pydoc
import re

import pytest

PUBLIC = {
    "do_conv": {
        "Cost", "DOConvError", "LayerCost", "MissingFrameworkError", "SeparableSpec", "Spec",
        "Window", "__version__", "choices", "compose", "compose_gradients", "compose_separable",
        "convolve", "fold", "identity", "identity_part", "layer_cost",
    },
    "do_conv.torch": {
        "DOConv1d", "DOConv2d", "DOConv3d", "DOConvOptimizer",
        "DOConvTranspose1d", "DOConvTranspose2d", "DOConvTranspose3d",
        "DepthwiseSeparableConv1d", "DepthwiseSeparableConv2d", "DepthwiseSeparableConv3d",
        "LazyDOConv1d", "LazyDOConv2d", "LazyDOConv3d",
        "LazyDOConvTranspose1d", "LazyDOConvTranspose2d", "LazyDOConvTranspose3d",
        "adaptive_clip_grad", "compose", "compose_separable", "composed", "convert", "fold",
        "folded_state_dict",
        "over_parameterize", "parameter_groups", "plan", "verify",
    },
    "do_conv.tf": {
        "DOConv1D", "DOConv2D", "DOConv3D", "DODepthwiseConv2D",
        "DOConv1DTranspose", "DOConv2DTranspose", "DOConv3DTranspose", "DOConvOptimizer",
        "DOSeparableConv1D", "DOSeparableConv2D",
        "DepthwiseSeparableConv1D", "DepthwiseSeparableConv2D",
        "compose", "compose_separable", "convert", "fold", "folded_weights", "plan", "verify",
    },
    "do_conv.gluon": {
        "DOConv1D", "DOConv2D", "DOConv3D",
        "DOConv1DTranspose", "DOConv2DTranspose", "DOConv3DTranspose", "DOConvTrainer",
        "DepthwiseSeparableConv1D", "DepthwiseSeparableConv2D", "DepthwiseSeparableConv3D",
        "compose", "compose_separable", "convert", "fold", "folded_parameters", "plan", "verify",
    },
    "do_conv.torch.authors": {"DOConv1d", "DOConv2d", "DOConv3d"},
    "do_conv.torch.authors.edited": {"DOConv2d", "DOConv2d_eval"},
    "do_conv.tf.authors": {"DOConv2D"},
    "do_conv.gluon.authors": {"DOConv2D"},
    # Those of the tools that are not locked here are in tests/integrations.
    "do_conv.integrations.keras": {"FoldedCheckpoint"},
    "do_conv.integrations.huggingface": {"DOConvCallback", "save_folded"},
}  # fmt: skip
METHODS = {
    "do_conv.torch": {"composed_weight", "fold"},
    "do_conv.tf": {"composed_kernel", "fold"},
    "do_conv.gluon": {"composed_weight", "fold"},
}
PAIRS = [(module, name) for module, names in PUBLIC.items() for name in sorted(names)]


@pytest.mark.parametrize("module", PUBLIC)
def test_the_public_names_are_these(module):
    assert set(importlib.import_module(module).__all__) == PUBLIC[module]


@pytest.mark.parametrize(("module", "name"), PAIRS)
def test_a_public_name_is_there_and_documented(module, name):
    found = getattr(importlib.import_module(module), name)
    assert isinstance(found, str) or inspect.getdoc(found)


def over_parameterized(module):
    """The layers of a module that have a D'."""
    loaded = importlib.import_module(module)
    names = [name for name in PUBLIC[module] if name.startswith("DO")]
    return [getattr(loaded, name) for name in names if not name.endswith(("Optimizer", "Trainer"))]


@pytest.mark.parametrize("module", METHODS)
def test_every_layer_has_the_methods(module):
    for layer in over_parameterized(module):
        assert {name for name in METHODS[module] if callable(getattr(layer, name))} == METHODS[
            module
        ]


@pytest.mark.parametrize("module", ["do_conv.torch", "do_conv.tf", "do_conv.gluon"])
def test_our_own_options_are_by_keyword_and_the_same_everywhere(module):
    for layer in over_parameterized(module):
        parameters = inspect.signature(layer).parameters
        ours = {
            name: parameters[name].default
            for name in ("d_mul", "depthwise_init", "composition")
            if parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
        }
        assert ours == {"d_mul": None, "depthwise_init": "identity", "composition": "kernel"}


@pytest.mark.parametrize("module", METHODS)
def test_help_shows_every_argument_of_the_plain_layer_and_ours(module):
    for layer in over_parameterized(module):
        lines = pydoc.plain(pydoc.render_doc(layer)).splitlines()
        (shown,) = [line for line in lines if line.startswith(f" |  {layer.__name__}(")]
        plain = inspect.signature(layer._plain).parameters.values()
        names = [one.name for one in plain if one.kind is not inspect.Parameter.VAR_KEYWORD]
        for name in (*names, "d_mul", "depthwise_init", "composition"):
            assert re.search(rf"\b{name}: ", shown), (layer, name)
