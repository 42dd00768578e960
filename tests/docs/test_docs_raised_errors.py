"""The page of errors shows the messages of rules that stand where they are broken."""

import ast
import re
import warnings
from pathlib import Path

import numpy as np
import pytest

from do_conv import DOConvError, choices
from do_conv.models import reasons
from do_conv.models.comparison import agreement
from do_conv.models.decisions import Convolution, Description, to_convert

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "errors.md"


def assert_shown(message):
    assert f"`{message}`" in PAGE.read_text(encoding="utf-8")


def test_nothing_to_convert():
    layer = Convolution("conv", object(), reasons.ONE_POSITION, 8, None, None)
    with pytest.raises(DOConvError) as refused:
        to_convert(Description([layer], 8), None, None, "kernel")
    assert_shown(refused.value)


@pytest.mark.parametrize("where", [["layer1"], "layer("])
def test_nothing_that_can_choose(where):
    with pytest.raises(DOConvError) as refused:
        to_convert(Description([], 0), where, None, "kernel")
    assert_shown(refused.value)


def test_a_pattern_of_stages():
    with pytest.raises(DOConvError) as refused:
        choices.stages([1], "layer")
    assert_shown(refused.value)


def test_outputs_that_differ():
    before, after = np.array([1.0, 0.5]), np.array([0.75, 0.5])
    inside = {"layer1.0.conv1": before}, {"layer1.0.conv1": after}
    with pytest.raises(DOConvError) as refused:
        agreement([before], [after], 1e-5, lambda: inside, "call eval() on both models first")
    assert_shown(refused.value)


def no_group_of_deltas(torch, ours):
    class ResNet(torch.nn.Module):
        """A network without layers of ours."""

    ours.parameter_groups(ResNet(), delta={})


def groups_that_lack_deltas(torch, ours):
    layers = [ours.DOConv2d(1, 1, 3) for _ in range(19)]
    grouped = [parameter for layer in layers[2:] for parameter in layer.parameters()]
    ours.parameter_groups(torch.nn.Sequential(*layers), delta={}, groups=[{"params": grouped}])


def parameters_that_change(torch, ours):
    layer = ours.DOConv2d(3, 8, 3)
    with ours.composed(layer), torch.no_grad():
        layer.weight.add_(1)


def divided_parameters(torch, ours):
    from torch.distributed.fsdp import FSDPModule

    model = torch.nn.Sequential(ours.DOConv2d(3, 8, 3))
    # The class that `fully_shard` gives to a model, which needs a group of processes.
    model.__class__ = type("FSDPResNet", (FSDPModule, torch.nn.Sequential), {})
    ours.fold(model)


def a_parametrized_weight(torch, ours):
    class StdConv2d(torch.nn.Conv2d):
        def forward(self, x):
            return self._conv_forward(x, self.weight, self.bias)

    layer = ours.convert(StdConv2d(3, 8, 3))
    torch.nn.utils.parametrizations.weight_norm(layer)
    layer(torch.zeros(1, 3, 8, 8))


@pytest.mark.parametrize(
    "provoke",
    [
        no_group_of_deltas,
        groups_that_lack_deltas,
        parameters_that_change,
        divided_parameters,
        a_parametrized_weight,
    ],
)
def test_pytorch(provoke):
    torch = pytest.importorskip("torch")
    with pytest.raises(DOConvError) as refused:
        provoke(torch, pytest.importorskip("do_conv.torch"))
    assert_shown(refused.value)


def a_subclassed_model(keras, ours):
    class Detector(keras.Model):
        def __init__(self):
            super().__init__()
            self.conv = ours.DOConv2D(4, 3)

    ours.fold(Detector())


def a_layer_out_of_reach(keras, ours):
    class Backbone(keras.layers.Layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.conv = ours.DOConv2D(4, 3, name="conv")

        def call(self, x):
            return self.conv(x)

    ours.fold(keras.Sequential([keras.Input((8, 8, 3)), Backbone(name="backbone")]))


@pytest.mark.parametrize("provoke", [a_subclassed_model, a_layer_out_of_reach])
def test_keras(provoke):
    keras = pytest.importorskip("keras")
    with pytest.raises(DOConvError) as refused:
        provoke(keras, pytest.importorskip("do_conv.tf"))
    assert_shown(refused.value)


def test_keras_cannot_compile_again():
    keras, ours = pytest.importorskip("keras"), pytest.importorskip("do_conv.tf")

    class Trainer(keras.Model):
        def compile(self, **options):
            super().compile(**options)

    inputs = keras.Input((8, 8, 3))
    model = Trainer(inputs, ours.DOConv2D(4, 3)(inputs))
    model.compile(loss="mse")
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        ours.fold(model)
    assert_shown(warned[0].message)


def rules_on_models():
    """The beginning of each message on whole models, as a regular expression."""
    for path in (ROOT / "do_conv").glob("**/models/*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and getattr(call.func, "id", None) == "broken":
                rule = call.args[0]
                parts = rule.values if isinstance(rule, ast.JoinedStr) else [rule]
                texts = [re.escape(p.value) if isinstance(p, ast.Constant) else ".*" for p in parts]
                yield pytest.param("`" + "".join(texts) + "; received", id=path.stem)


@pytest.mark.parametrize("rule", list(rules_on_models()))
def test_every_rule_on_models_is_on_the_page(rule):
    assert re.search(rule, PAGE.read_text(encoding="utf-8"))
