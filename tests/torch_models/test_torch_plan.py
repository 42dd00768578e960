"""`plan` and the ready choices of layers."""

import contextlib

import pytest
import torch
import torchvision
from torch import nn

from do_conv import DOConvError, choices
from do_conv.torch import convert, plan


def converted(model, where):
    return [row.name for row in plan(model, where=where).converted]


def test_rows_are_the_convolutions_in_order(network):
    rows = {
        row.name.removeprefix("0."): (row.kind, row.becomes, row.reason) for row in plan(network)
    }
    assert rows == {
        "first": ("Conv2d", "DOConv2d", None),
        "depthwise": ("Conv2d", "DOConv2d", None),
        "twice": ("Conv2d", "DOConv2d", None),
        "tied": ("Conv2d", "DOConv2d", None),
        "pointwise": ("Conv2d", None, "a 1 x 1 kernel has nothing to over-parameterize"),
        "up": ("ConvTranspose2d", "DOConvTranspose2d", None),
    }


def test_parameters_are_those_of_the_models():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, (5, 1), groups=2), nn.Conv2d(8, 4, 1),
        nn.ConvTranspose2d(4, 6, 2),
    )  # fmt: skip
    for d_mul in (None, lambda spec: spec.area + 3):
        found, trained = plan(model, d_mul=d_mul), convert(model, d_mul=d_mul)
        assert found.parameters == sum(p.numel() for p in model.parameters())
        assert found.training_parameters == sum(p.numel() for p in trained.parameters())


def test_multiply_accumulates():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ConvTranspose2d(8, 4, 2, 2))
    model.train()
    found = plan(model, input_shape=(2, 3, 8, 8))
    assert model.training
    first, up = found
    assert first.macs(2) == (2 * 16 * 8 * 3 * 9, 2 * 16 * 8 * 3 * 9 + 9 * 9 * 8 * 3)
    assert up.macs(2) == (2 * 16 * 8 * 4 * 4, 2 * 16 * 8 * 4 * 4 + 4 * 4 * 8 * 4)
    assert found.macs == tuple(map(sum, zip(first.macs(2), up.macs(2), strict=True)))
    assert plan(model).macs is None
    assert plan(model.double(), input_shape=(2, 3, 8, 8)).macs == found.macs
    by_feature = plan(model, input_shape=(2, 3, 8, 8), composition="feature").rows[0]
    assert by_feature.macs(2)[1] == 2 * 16 * (9 * 9 * 3 + 8 * 3 * 9)


@pytest.mark.parametrize("input_shape", [(2, 3, 8, 8), (2, 5, 8, 8)])
def test_every_modules_mode_and_hooks_stay_even_if_the_input_does_not_fit(network, input_shape):
    network.train()
    network[0].norm.eval()  # frozen averages, inside a model that is trained
    modes = [module.training for module in network.modules()]
    refused = pytest.raises(RuntimeError) if input_shape[1] == 5 else contextlib.nullcontext()
    with refused:
        plan(network, input_shape=input_shape)
    assert [module.training for module in network.modules()] == modes
    assert not any(module._forward_hooks for module in network.modules())


def test_a_layer_is_counted_for_each_time_it_is_used():
    layer = nn.Conv2d(3, 3, 3, padding=1)
    (row,) = plan(nn.Sequential(layer, nn.MaxPool2d(2), layer), input_shape=(2, 3, 8, 8))
    assert row.positions == ((8, 8), (4, 4))
    assert row.macs(2) == (2 * 80 * 81, 2 * 80 * 81 + 2 * 9 * 81)


def test_lazy_layers_stay_lazy():
    model = nn.Sequential(nn.LazyConv2d(8, 3), nn.LazyConvTranspose2d(4, 2))
    first, up = plan(model, input_shape=(1, 3, 8, 8))
    assert first.macs(1) == (36 * 8 * 3 * 9, 36 * 8 * 3 * 9 + 9 * 9 * 8 * 3)
    assert up.macs(1)[0] == 36 * 8 * 4 * 4
    assert type(model[0]) is nn.LazyConv2d
    assert model[0].weight.__class__ is nn.UninitializedParameter
    assert plan(model).macs is None


def test_the_table_says_what_becomes_of_each_layer():
    model = torchvision.models.resnet18()
    table = str(plan(model, input_shape=(1, 3, 64, 64), d_mul=lambda spec: spec.area + 1))
    lines = table.splitlines()
    assert lines[0].split()[:4] == ["layer", "is", "becomes", "parameters"]
    (conv1,) = (line for line in lines if line.startswith("conv1 "))
    counts = "9.41 k 17.0 k 9.63 M 10.1 M"
    assert " ".join(conv1.split()) == f"conv1 Conv2d DOConv2d, d_mul=50 {counts}"
    down = lines[lines.index("layer2.0.downsample.0") + 1]  # too long to stand in its row
    assert "Conv2d  left (1)" in down
    assert "(1) left: a 1 x 1 kernel has nothing to over-parameterize" in lines
    assert any(
        line.startswith("whole model, 17 of 20 convolutions") and "11.7 M" in line for line in lines
    )
    assert max(map(len, lines)) <= 80


def test_the_table_of_a_bare_layer_and_of_a_lazy_one():
    bare = " ".join(str(plan(nn.Conv2d(3, 4, 3))).split())
    assert "(the model) Conv2d DOConv2d 112 355" in bare
    lazy = " ".join(str(plan(nn.LazyConv2d(4, 3))).split())
    assert "(the model) LazyConv2d LazyDOConv2d - -" in lazy
    assert "not known before the network has seen an input" in lazy


@pytest.mark.parametrize(
    ("where", "names"),
    [
        (choices.first(2), ["conv1", "layer1.0.conv1"]),
        (choices.stages({0}), ["conv1"]),
        (choices.stages({0, 2}) & choices.named("0.conv1"), ["layer2.0.conv1"]),
        (choices.kernel_at_least(5), ["conv1"]),
        (choices.kernel_at_least(7, 7), ["conv1"]),
        (~choices.named("layer"), ["conv1"]),
        (choices.named("layer1.0.conv2") | choices.first(1), ["conv1", "layer1.0.conv2"]),
        (choices.depthwise(), []),
        (lambda name, layer: layer.stride == (2, 2) and "4" in name, ["layer4.0.conv1"]),
    ],
)  # fmt: skip
def test_choices_in_a_resnet(where, names):
    assert converted(torchvision.models.resnet18(), where) == names


def test_depthwise_layers_of_a_mobilenet():
    model = torchvision.models.mobilenet_v2()
    found = converted(model, choices.depthwise())
    assert len(found) == 17
    assert len(converted(model, choices.kernel_at_least(3))) == 18
    assert len(converted(model, ~choices.depthwise())) == 1


def test_stages_by_another_pattern():
    model = nn.ModuleDict({"stem": nn.Conv2d(3, 4, 3), "group2": nn.Conv2d(4, 4, 3)})
    assert converted(model, choices.stages({2}, r"group(\d)")) == ["group2"]


@pytest.mark.parametrize(
    "make",
    [lambda: choices.first(0), lambda: choices.stages({-1}), lambda: choices.kernel_at_least("3")],
)
def test_exception_bad_choices(make):
    with pytest.raises(DOConvError, match=r"must be (a positive|an) integer"):
        make()


@pytest.mark.parametrize("make", [plan, convert])
def test_exception_a_program_of_torchscript(make):
    scripted = torch.jit.trace(nn.Conv2d(3, 4, 3), torch.zeros(1, 3, 8, 8))
    with pytest.raises(DOConvError, match="TopLevelTracedModule of TorchScript; give the model"):
        make(scripted)


@pytest.mark.parametrize("door", ["layers", "optimizer"])
@pytest.mark.parametrize(
    "change",
    [
        lambda weight: weight.sum(1, keepdim=True),  # for grey images
        lambda weight: weight[:, [0, 1, 2, 0]],
        lambda weight: weight[:6],
        lambda weight: weight[..., :2],
    ],
)
def test_a_weight_of_other_sizes_than_the_layer_s_is_left(change, door):
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3))
    model[0].weight = nn.Parameter(change(model[0].weight.detach()))
    first, second = plan(model, door=door)
    assert first.reason == "its weight has other sizes than its attributes say"
    assert second.reason is None


def test_where_is_asked_about_the_model_s_own_lazy_layers():
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyConv2d(4, 3))
    chosen = model[1]
    found = plan(model, input_shape=(1, 3, 8, 8), where=lambda name, layer: layer is chosen)
    assert [row.name for row in found.converted] == ["1"]


def test_exception_where_is_neither_a_function_nor_a_name():
    for model in (nn.Conv2d(3, 4, 3), nn.LazyConv2d(4, 3)):
        with pytest.raises(DOConvError, match="where"):
            plan(model, input_shape=(1, 3, 8, 8), where=3)
