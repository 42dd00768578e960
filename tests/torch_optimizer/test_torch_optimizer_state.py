"""States: layout, files, resuming to the last bit, `torch.distributed.checkpoint`."""

import copy

import pytest
import torch
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    get_state_dict,
    set_optimizer_state_dict,
)
from torch.optim import LBFGS, SGD, Adam, AdamW
from twins import difference, network, parameters_of, same_bits, train

from do_conv import DOConvError
from do_conv.torch import DOConvOptimizer, convert

SHAPE = (3, 8, 8)
OPTIMIZERS = {
    "sgd": lambda p: SGD(p, 0.01),
    "momentum": lambda p: SGD(p, 0.01, momentum=0.9, weight_decay=0.01),
    "adamw": lambda p: AdamW(p, 0.01, weight_decay=0.1),
    "fused adam": lambda p: Adam(p, 0.01, fused=True),
}
OPTIONS = {
    "identity": {},
    "large d_mul, he": {"d_mul": 11, "depthwise_init": "he"},
    "options of d": {"depthwise_options": {"weight_decay": 0, "lr": 0.001}},
}
OF_A_KERNEL = {
    "sgd": ["depthwise_delta", "weight"],
    "momentum": [
        "depthwise_delta", "depthwise_delta.momentum_buffer", "weight", "weight.momentum_buffer",
    ],
    "adamw": sorted(
        f"{part}{key}"
        for part in ("weight", "depthwise_delta")
        for key in ("", ".step", ".exp_avg", ".exp_avg_sq")
    ),
}  # fmt: skip


def made(name="momentum", dtype=torch.float64, seed=0, **options):
    """A network and its optimizer; another seed draws another start."""
    model = network(dtype)
    torch.manual_seed(seed)
    return model, DOConvOptimizer(OPTIMIZERS[name](model.parameters()), model, **options)


@pytest.mark.parametrize("name", OF_A_KERNEL)
def test_the_layout_is_that_of_torch_with_the_parts_of_a_kernel_under_its_weight(name):
    model, optimizer = made(name)
    train(model, optimizer, SHAPE, 2)
    state, plain = optimizer.state_dict(), OPTIMIZERS[name](model.parameters()).state_dict()
    assert [group["params"] for group in state["param_groups"]] == [list(range(11))]
    assert state["param_groups"][0] == plain["param_groups"][0]
    places = {n: place for place, (n, _) in enumerate(model.named_parameters())}
    for layer, kernel in optimizer.kernels.items():
        values = state["state"][places[f"{layer}.weight"]]
        assert sorted(values) == OF_A_KERNEL[name]
        assert torch.equal(values["weight"], kernel.weight)
        assert torch.equal(values["depthwise_delta"], kernel.delta)
    of_others = {"sgd": set(), "momentum": {"momentum_buffer"}}
    for number in (1, 2, 10):
        assert set(state["state"][number]) == of_others.get(name, {"step", "exp_avg", "exp_avg_sq"})
    for parameter, place in zip(model.parameters(), range(11), strict=True):
        assert set(optimizer.state[parameter]) == set(state["state"][place])


@pytest.mark.parametrize("order", ["model first", "optimizer first"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", ["momentum", "adamw"])
def test_resumed_training_is_equal_to_the_last_bit(name, options, dtype, order, tmp_path):
    model, optimizer = made(name, dtype, **OPTIONS[options])
    train(model, optimizer, SHAPE, 3)
    torch.save((model.state_dict(), optimizer.state_dict()), tmp_path / "state.pt")
    train(model, optimizer, SHAPE, 3, seed=2)
    of_model, of_optimizer = torch.load(tmp_path / "state.pt", weights_only=True)
    again, resumed = made(name, dtype, seed=1, **OPTIONS[options])
    if order == "model first":
        again.load_state_dict(of_model)
    resumed.load_state_dict(of_optimizer)
    again.load_state_dict(of_model)
    train(again, resumed, SHAPE, 3, seed=2)
    assert same_bits(parameters_of(again), parameters_of(model))
    for layer, kernel in optimizer.kernels.items():
        assert torch.equal(kernel.weight, resumed.kernels[layer].weight)
        assert torch.equal(kernel.delta, resumed.kernels[layer].delta)


def test_a_state_that_was_not_stepped_is_loaded():
    model, optimizer = made(d_mul=11, depthwise_init="he")
    state = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    again, resumed = made(d_mul=11, depthwise_init="he", seed=1)
    again.load_state_dict(state[0])
    resumed.load_state_dict(state[1])
    train(model, optimizer, SHAPE, 2)
    train(again, resumed, SHAPE, 2)
    assert same_bits(parameters_of(again), parameters_of(model))


def test_an_lbfgs_is_resumed():
    def closure():
        optimizer.zero_grad()
        loss = (model(x) - 0.3).square().mean()
        loss.backward()
        return loss

    x = torch.randn(2, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = []
    for is_resumed in (False, True):
        model = network()
        optimizer = DOConvOptimizer(LBFGS(model.parameters(), 0.1, max_iter=2), model)
        optimizer.step(closure)
        if is_resumed:
            states = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
            model = network()
            optimizer = DOConvOptimizer(LBFGS(model.parameters(), 0.1, max_iter=2), model)
            model.load_state_dict(states[0])
            optimizer.load_state_dict(states[1])
        optimizer.step(closure)
        found.append(parameters_of(model))
    assert same_bits(*found)


@pytest.mark.parametrize("order", ["model first", "optimizer first"])
@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("name", ["sgd", "momentum", "adamw"])
def test_through_distributed_checkpoint_by_names(name, flat, order):
    options = StateDictOptions(flatten_optimizer_state_dict=flat)
    model, optimizer = made(name, d_mul=11)
    train(model, optimizer, SHAPE, 3)
    of_model = copy.deepcopy(model.state_dict())
    state = copy.deepcopy(get_optimizer_state_dict(model, optimizer, options=options))
    names = state if flat else state["state"]
    assert ("state.0.weight.depthwise_delta" if flat else "0.weight") in names
    train(model, optimizer, SHAPE, 3, seed=2)
    again, resumed = made(name, d_mul=11, seed=1)
    if order == "model first":
        again.load_state_dict(of_model)
    set_optimizer_state_dict(again, resumed, state, options=options)
    again.load_state_dict(of_model)
    train(again, resumed, SHAPE, 3, seed=2)
    assert same_bits(parameters_of(again), parameters_of(model))


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning")
@pytest.mark.parametrize("name", ["sgd", "momentum", "adamw"])
def test_through_distributed_checkpoint_into_files(name, tmp_path):
    from torch.distributed import checkpoint

    model, optimizer = made(name, d_mul=11)
    train(model, optimizer, SHAPE, 3)
    states = dict(zip(("model", "optimizer"), get_state_dict(model, optimizer), strict=True))
    checkpoint.save(states, checkpoint_id=tmp_path, no_dist=True)
    train(model, optimizer, SHAPE, 3, seed=2)
    again, resumed = made(name, d_mul=11, seed=1)
    states = dict(zip(("model", "optimizer"), get_state_dict(again, resumed), strict=True))
    checkpoint.load(states, checkpoint_id=tmp_path, no_dist=True)
    again.load_state_dict(states["model"])
    set_optimizer_state_dict(again, resumed, states["optimizer"])
    train(again, resumed, SHAPE, 3, seed=2)
    assert same_bits(parameters_of(again), parameters_of(model))


def test_a_frozen_kernel_goes_through_distributed_checkpoint():
    """It leaves out the state of what is frozen."""
    model, optimizer = made()
    model[3].requires_grad_(False)
    train(model, optimizer, SHAPE, 2)
    state = copy.deepcopy(get_optimizer_state_dict(model, optimizer))
    again, resumed = made()
    again[3].requires_grad_(False)
    again.load_state_dict(model.state_dict())
    set_optimizer_state_dict(again, resumed, state)
    for net, inner in ((model, optimizer), (again, resumed)):
        train(net, inner, SHAPE, 2, seed=2)
    assert same_bits(parameters_of(again), parameters_of(model))


def test_what_a_gpu_rounds_in_another_way_is_not_a_foreign_kernel():
    for dtype in (torch.float32, torch.bfloat16):
        model, optimizer = made(dtype=dtype)
        train(model, optimizer, SHAPE, 3)
        state = copy.deepcopy(optimizer.state_dict())
        with torch.no_grad():
            model[0].weight.copy_(torch.nextafter(model[0].weight, torch.tensor(1.0, dtype=dtype)))
        optimizer.load_state_dict(state)
        train(model, optimizer, SHAPE, 1)


def test_exception_the_state_of_a_plain_optimizer_changes_nothing():
    model, optimizer = made()
    inner = OPTIMIZERS["momentum"](model.parameters())
    train(model, inner, SHAPE, 1)
    state = inner.state_dict()
    optimizer.restore_weights()
    train(model, optimizer, SHAPE, 1)
    before = copy.deepcopy((parameters_of(model), optimizer.state_dict()["state"]))
    match = r"hold W and D' .* layer '0'; load the state of a plain optimizer before it is wrapped"
    with pytest.raises(DOConvError, match=match):
        optimizer.load_state_dict(state)
    after = optimizer.state_dict()["state"]
    assert same_bits(parameters_of(model), before[0])
    assert all(same_bits(after[number], one) for number, one in before[1].items())
    assert len(optimizer.param_groups[0]["params"]) == 11


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", ["momentum", "adamw", "fused adam"])
def test_an_optimizer_that_has_trained_is_wrapped(name, dtype):
    """W goes on with the state of its kernel."""
    model = network(dtype)
    inner = OPTIMIZERS[name](model.parameters())
    train(model, inner, SHAPE, 3)
    layers = convert(model)
    expected = OPTIMIZERS[name](layers.parameters())
    found, own = dict(model.named_parameters()), dict(layers.named_parameters())
    for key, parameter in found.items():
        expected.state[own[key]] = copy.deepcopy(inner.state[parameter])
    optimizer = DOConvOptimizer(inner, model)
    assert len(optimizer.state_dict()["state"]) == len(found)
    train(model, optimizer, SHAPE, 3, seed=2)
    if dtype == torch.float64:
        train(layers, expected, SHAPE, 3, seed=2)
        assert difference(model, optimizer, layers) <= 1e-12
    dtypes = {v.dtype for k in optimizer.kernels.values() for v in inner.state[k.weight].values()}
    assert dtypes <= {torch.float32, dtype if dtype == torch.float64 else torch.float32}


def test_a_state_of_other_arrays_than_a_kernel_is_left_behind():
    model = network()
    inner = OPTIMIZERS["momentum"](model.parameters())
    train(model, inner, SHAPE, 3)
    optimizer = DOConvOptimizer(inner, model, d_mul=11)
    train(model, optimizer, SHAPE, 1)
    momentum = inner.state[optimizer.kernels["0"].weight]["momentum_buffer"]
    assert momentum.shape == (8, 3, 11)


def test_exception_states_of_other_sizes():
    model, optimizer = made()
    _, wide = made(d_mul=11)
    with pytest.raises(DOConvError, match=r"0\.weight"):
        optimizer.load_state_dict(wide.state_dict())
    some = DOConvOptimizer(OPTIMIZERS["momentum"](model[:4].parameters()), model)
    with pytest.raises(DOConvError, match=r"groups of \[11\] parameters.* groups of \[5\]"):
        optimizer.load_state_dict(some.state_dict())
