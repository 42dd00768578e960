"""Networks that `fully_shard` divides between two and among three processes."""

import re

import pytest
import torch
from sharded_jobs import (
    CASES,
    CLIPPED,
    LARGE,
    continued,
    images,
    in_bfloat16,
    loss_of,
    network,
    of_case,
    optimizer_of,
    part_of,
    resumed,
    sharded,
    spawned,
    train,
    trained,
)
from torch import nn
from torch.optim import LBFGS, SGD
from twins import same_bits

from do_conv import DOConvError
from do_conv.torch import DOConvOptimizer

SAVED = ["momentum", "adamw"]
OF_THREE = ["momentum", "adamw, large d_mul, he"]


def refused(function, *arguments):
    """The message with which a function refuses."""
    with pytest.raises(DOConvError) as error:
        function(*arguments)
    return str(error.value)


def sharded_too_late(call=lambda optimizer: optimizer.step()):
    from torch.distributed.fsdp import fully_shard

    model = network()
    optimizer = optimizer_of(model, "momentum", {})
    fully_shard(model)
    call(optimizer)


def by_channels():
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import Shard

    layer = nn.Conv2d(2, 3, 3, bias=False)
    optimizer_of(fully_shard(layer, shard_placement_fn=lambda _: Shard(1)), "sgd", {})


def flat():
    from torch.distributed.fsdp import FullyShardedDataParallel

    model = FullyShardedDataParallel(network(), use_orig_params=True, device_id=torch.device("cpu"))
    optimizer_of(model, "sgd", {})


def joined():
    model = sharded()
    DOConvOptimizer(LBFGS(model.parameters()), model)


def refusals(rank):
    model, plain = sharded(), network()
    states = [optimizer_of(one, "sgd", {}).state_dict() for one in (model, plain)]
    load = [optimizer_of(one, "sgd", {}).load_state_dict for one in (plain, model)]
    return {
        "too late": refused(sharded_too_late),
        "clipped too late": refused(sharded_too_late, lambda its: its.clip_grad_norm_(1.0)),
        "channels": refused(by_channels), "flat": refused(flat), "lbfgs": refused(joined),
        "sharded state": refused(load[0], states[0]), "whole state": refused(load[1], states[1]),
    }  # fmt: skip


def written_by_one(rank):
    """A kernel of which one process writes a number that no sample holds."""
    model = sharded()
    optimizer = optimizer_of(model, "momentum", {})
    train(model, optimizer, steps=[0])
    before = trained(model, optimizer)
    if rank == 1:
        with torch.no_grad():
            model[0].weight.to_local()[0, 0, 0, 1] += 1
    message = refused(train, model, optimizer, slice(None), None, [1])
    optimizer.restore_weights()
    is_restored = same_bits(trained(model, optimizer), before)
    train(model, optimizer, steps=[1])
    return {"message": message, "is restored": is_restored}


def after_an_evaluation():
    """The kernels of a network that holds whole parameters from its last forward pass."""
    model = sharded()
    inner = SGD(model.parameters(), 0.1)
    with torch.no_grad():
        model(images(0)[0])
    assert type(model[0].weight) is nn.Parameter
    return sorted(DOConvOptimizer(inner, model).kernels)


def with_a_scaler(rank, processes):
    """Steps of which one overflows, in one process."""
    model = sharded() if processes > 1 else network()
    optimizer = optimizer_of(model, "momentum", {})
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for step in range(3):
        optimizer.zero_grad()
        loss = loss_of(model(images(step)[0, part_of(rank, processes)]))
        is_last = rank == processes - 1
        scaler.scale(loss * torch.inf if step == 1 and is_last else loss).backward()
        scaler.unscale_(optimizer)
        optimizer.clip_grad_norm_(0.1)
        scaler.step(optimizer)
        scaler.update()
    return trained(model, optimizer)


def of_two(rank, processes, folder):
    from torch.distributed.device_mesh import init_device_mesh

    replicas = init_device_mesh("cpu", (2, 1), mesh_dim_names=("replicate", "shard"))
    return {
        "cases": {case: of_case(case, rank, processes) for case in CASES},
        "replicated": of_case("adamw, large d_mul, he", rank, processes, replicas),
        "bfloat16": in_bfloat16(rank, processes),
        "resumed": {name: resumed(rank, processes, f"{folder}/{name}", name) for name in SAVED},
        "refusals": refusals(rank),
        "written": written_by_one(rank),
        "after an evaluation": after_an_evaluation(),
        "scaled": with_a_scaler(rank, processes),
    }


def of_three(rank, processes, folder):
    return {
        "cases": {case: of_case(case, rank, processes) for case in OF_THREE},
        "continued": {name: continued(rank, processes, f"{folder}/{name}", name) for name in SAVED},
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(tmp_path_factory.mktemp("sharded"))


@pytest.fixture(scope="module")
def two(folder):
    return spawned(of_two, 2, folder, folder)


@pytest.fixture(scope="module")
def three(two, folder):
    return spawned(of_three, 3, folder, folder)


@pytest.fixture(scope="module")
def one():
    return {case: of_case(case) for case in CASES}


def assert_trained_as_one(found, expected):
    for process in found:
        assert all(map(torch.equal, process["deltas"], found[0]["deltas"]))
        assert all(of_kernel == of_weight for of_kernel, of_weight in process["shares"])
        torch.testing.assert_close(process["norms"], expected["norms"], rtol=1e-12, atol=0)
        torch.testing.assert_close(process["trained"], expected["trained"], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("processes", "case"),
    [*(("two", case) for case in CASES), *(("three", case) for case in OF_THREE)],
)
def test_processes_that_share_a_network_train_as_one(processes, case, one, request):
    found = request.getfixturevalue(processes)
    assert_trained_as_one([process["cases"][case] for process in found], one[case])
    start = trained(network(), optimizer_of(network(), *CASES[case][:2]))
    still = {n for n, value in one[case]["trained"].items() if torch.equal(value, start[n])}
    assert {name for name in still if "unused" not in name} == set()


def test_replicas_of_a_sharded_network_train_as_one(two, one):
    assert_trained_as_one([process["replicated"] for process in two], one["adamw, large d_mul, he"])


def test_a_network_that_computes_in_bfloat16(two):
    expected = in_bfloat16(0, 1)
    for process in two:
        assert process["bfloat16"]["dtypes"] == {torch.float32}
        torch.testing.assert_close(
            process["bfloat16"]["trained"], expected["trained"], rtol=0, atol=1e-6
        )


@pytest.mark.parametrize("name", SAVED)
def test_resumed_training_is_equal_to_the_last_bit(name, two):
    for process in two:
        assert process["resumed"][name] == {"from files": True, "from whole arrays": True}


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning")
@pytest.mark.parametrize("name", SAVED)
def test_another_number_of_processes_goes_on(name, two, three, folder):
    model = network(has_unused=False)
    optimizer = optimizer_of(model, name, LARGE)
    train(model, optimizer, clipping=CLIPPED)
    expected = trained(model, optimizer)
    found = [process["continued"][name] for process in three]
    found.append(continued(0, 1, f"{folder}/{name}", name))
    for arrays in found:
        torch.testing.assert_close(arrays, expected, rtol=0, atol=1e-12)


def test_steps_that_overflow_in_one_process_are_left_out(two):
    expected = with_a_scaler(0, 1)
    for process in two:
        torch.testing.assert_close(process["scaled"], expected, rtol=0, atol=1e-12)


def test_all_kernels_are_found_after_an_evaluation(two):
    names = sorted(optimizer_of(network(), "sgd", {}).kernels)
    assert [process["after an evaluation"] for process in two] == [names, names]


def test_exception_a_kernel_that_one_process_has_written(two):
    for process in two:
        assert "layer '0' that was written since" in process["written"]["message"]
        assert process["written"]["is restored"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("too late", "call fully_shard first, then make the optimizer"),
        ("clipped too late", "call fully_shard first, then make the optimizer"),
        ("channels", r"divided by its first axis, .* layer '' in placements \(Shard\(dim=1\)"),
        ("flat", "divide the model with fully_shard, the newer FSDP"),
        ("lbfgs", "step on each parameter by itself; received an LBFGS"),
        ("sharded state", "received arrays that fully_shard divides for layer '0', which has who"),
        ("whole state", "received whole arrays for layer '0', which has arrays that fully_shard"),
    ],
)
def test_exception(name, words, two):
    for process in two:
        assert re.search(words, process["refusals"][name])
