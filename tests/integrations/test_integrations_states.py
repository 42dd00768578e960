"""The folded weights of a state that a training tool holds, whatever else the tool keeps in it."""

import pytest
import torch
from torch import nn

from do_conv.integrations.states import folded_state
from do_conv.torch import convert, fold


class Own(nn.Conv2d):
    def forward(self, x):
        return nn.functional.conv2d(x, self.weight, self.bias)


class Extra(nn.Module):
    count = 1

    def get_extra_state(self):
        return {"count": self.count}

    def set_extra_state(self, state):
        self.count = state["count"]


@pytest.fixture
def average():
    """A converted network, and a state with other values and with what is no array of it."""
    torch.manual_seed(0)
    model = convert(nn.Sequential(Own(3, 8, 3), Extra(), nn.Conv2d(8, 4, 3), nn.BatchNorm2d(4)))
    model[2].bias = model[3].bias
    state = {
        name: 0.1 + torch.rand_like(value) if torch.is_tensor(value) and value.dim() else value
        for name, value in model.state_dict().items()
    }
    state["3.bias"] = state["2.bias"]
    state.update({"1._extra_state": {"count": 5}, "averaged": torch.tensor(7)})
    return model, state


def test_a_state_with_more_than_the_arrays_of_the_model(average):
    model, state = average
    before = {name: value for name, value in model.state_dict().items() if torch.is_tensor(value)}
    before = {name: value.clone() for name, value in before.items()}
    found = folded_state(model, state)
    assert found.pop("averaged") == 7
    plain = fold(model)
    plain.load_state_dict(found)
    assert plain[1].count == 5
    model.load_state_dict({k: v for k, v in state.items() if k != "averaged"})
    expected = fold(model).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in before if name in found)


def test_the_model_stays_as_it_is(average):
    model, state = average
    kinds, before = [type(one) for one in model.modules()], model[0].weight.detach().clone()
    folded_state(model, state)
    assert [type(one) for one in model.modules()] == kinds
    assert torch.equal(model[0].weight, before)
    assert isinstance(model[0].weight, nn.Parameter)
