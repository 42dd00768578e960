"""Groups of parameters for an optimizer, and clipping relative to a parameter's norm."""

import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from timm.utils.agc import adaptive_clip_grad as timms_clip
from torch import nn

from do_conv import DOConvError
from do_conv.torch import (
    DOConv2d,
    adaptive_clip_grad,
    convert,
    over_parameterize,
    parameter_groups,
)


def deltas(model):
    return {id(p) for name, p in model.named_parameters() if name.endswith("depthwise_delta")}


def ids(group):
    return [id(parameter) for parameter in group["params"]]


@pytest.fixture(scope="module")
def resnet():
    return convert(timm.create_model("resnet18", num_classes=4))


@pytest.mark.parametrize("divide", [param_groups_weight_decay, param_groups_layer_decay])
def test_the_group_that_timm_puts_d_into_decays(resnet, divide):
    ours = deltas(resnet)
    for group in divide(resnet, weight_decay=0.05):
        assert group["weight_decay"] == 0.05 or not ours & set(ids(group))


def test_d_stands_behind_its_group_with_its_options(resnet):
    given = param_groups_layer_decay(resnet, weight_decay=0.05, layer_decay=0.5)
    made = parameter_groups(resnet, groups=given, delta={"weight_decay": 0, "lr": 0.01})
    ours, place = deltas(resnet), 0
    for group in given:
        rest = [one for one in ids(group) if one not in ours]
        apart = [one for one in ids(group) if one in ours]
        for members, changed in ((rest, {}), (apart, {"weight_decay": 0, "lr": 0.01})):
            if members:
                options = {k: v for k, v in made[place].items() if k != "params"}
                kept = {k: v for k, v in group.items() if k != "params"}
                assert ids(made[place]) == members
                assert options == {**kept, **changed}
                place += 1
    assert place == len(made) > len(given)
    scales = {group["lr_scale"] for group in made if set(ids(group)) <= ours}
    assert len(scales) > 3  # each D' keeps the rate of its layer
    torch.optim.AdamW(made, 0.1).step()


def test_options_of_d_from_those_of_its_group():
    model = nn.Sequential(DOConv2d(3, 4, 3), DOConv2d(4, 2, 3))
    given = [{"params": model[0].parameters(), "lr": 0.1}, {"params": model[1].parameters()}]
    made = parameter_groups(
        model, groups=given, delta=lambda group: {"lr": group["lr"] / 10}, lr=0.5, momentum=0.9
    )
    assert [group["lr"] for group in made] == [0.1, pytest.approx(0.01), 0.5, pytest.approx(0.05)]
    assert all(group["momentum"] == 0.9 for group in made)
    assert made[3]["params"] == [model[1].depthwise_delta]


def test_groups_with_names_and_single_tensors():
    model = nn.Sequential(over_parameterize(nn.Conv2d(3, 4, 3)), DOConv2d(4, 2, 3, bias=False))
    delta = model[1].depthwise_delta
    given = [
        {"params": list(model[0].named_parameters())},
        {"params": [("weight", model[1].weight)]},
        {"params": [("delta", delta)]},
    ]
    made = parameter_groups(model, groups=given, delta={"lr": 0.01}, lr=0.1)
    optimizer = torch.optim.SGD(made)
    assert [group["param_names"][-1] for group in optimizer.param_groups] == [
        "parametrizations.weight.original", "parametrizations.weight.0.depthwise_delta", "weight",
        "delta",
    ]  # fmt: skip
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.01, 0.1, 0.01]
    single = [{"params": model[1].weight}, {"params": delta}]
    apart = parameter_groups(model[1], groups=single, delta={"lr": 0.01})
    assert apart[1] == {"params": [delta], "lr": 0.01}


def test_exception_groups_that_lack_a_delta():
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 3))
    given = [{"params": list(plain.parameters())}]
    model = convert(plain, inplace=True)
    with pytest.raises(DOConvError, match=r"must hold every .* lack 2 of 2; make"):
        parameter_groups(model, groups=given, delta={})
    model[0].depthwise_delta.requires_grad_(False)
    model[1].depthwise_delta.requires_grad_(False)
    assert len(parameter_groups(model, groups=given, delta={})) == 1


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        DOConv2d(3, 4, 3, bias=False), nn.ReLU(), over_parameterize(nn.Conv2d(4, 4, 3)),
        DOConv2d(4, 4, 3, groups=2, d_mul=19), nn.Flatten(), nn.Linear(64, 2),
    ).double()  # fmt: skip


def clipped(model, clip, steps=1):
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    x = torch.randn(4, 3, 10, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for _ in range(steps):
        optimizer.zero_grad()
        (100 * model(x).square().mean()).backward()
        clip(model)
        optimizer.step()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def test_clipping_is_timms_but_for_d():
    ours = clipped(network(), adaptive_clip_grad)
    theirs = clipped(network(), lambda model: timms_clip(model.parameters()))
    raw = clipped(network(), lambda model: None)
    for name, gradient in ours.items():
        if not name.endswith("depthwise_delta"):
            torch.testing.assert_close(gradient, theirs[name])
            assert not torch.allclose(gradient, raw[name])
            continue
        # A row of the identity has a one for each position of each whole block.
        norms = raw[name].flatten(1).norm(dim=1)
        factors = (0.01 * (9 * (gradient.shape[1] // 9)) ** 0.5 / norms).clamp(max=1)
        assert (factors < 1).any()
        torch.testing.assert_close(gradient, raw[name] * factors.reshape(-1, 1, 1, 1))


def test_d_trains_under_clipping_that_judges_it_by_d():
    norms = []
    for clip in (adaptive_clip_grad, lambda model: timms_clip(model.parameters())):
        model = network()
        clipped(model, clip, 20)
        norms.append(model[0].depthwise_delta.norm().item())
    assert norms[0] > 100 * norms[1] > 0


def test_gradients_within_keep_their_bits_and_what_is_not_chosen_stays():
    model = network()
    raw = clipped(network(), lambda model: None)
    within = clipped(model, lambda m: adaptive_clip_grad(m, 1e6))
    assert all(torch.equal(within[name], one) for name, one in raw.items())
    some = clipped(network(), lambda m: adaptive_clip_grad(m, parameters=m[:4].parameters()))
    assert torch.equal(some["5.weight"], raw["5.weight"])
    assert not torch.equal(some["0.weight"], raw["0.weight"])


def test_one_parameter_is_clipped_as_a_list_of_it_is():
    alone, listed = (
        clipped(network(), lambda m, of=of: adaptive_clip_grad(m, parameters=of(m[0].weight)))
        for of in (lambda one: one, lambda one: [one])
    )
    assert not torch.equal(alone["0.weight"], clipped(network(), lambda m: None)["0.weight"])
    assert all(torch.equal(alone[name], one) for name, one in listed.items())


def test_exception_groups_that_are_no_groups():
    model = nn.Sequential(DOConv2d(3, 4, 3))
    for groups in (model.parameters(), [{"lr": 1}]):
        with pytest.raises(DOConvError, match=r'must be dicts with "params".*; received a'):
            parameter_groups(model, groups=groups, delta={"lr": 0.01})
