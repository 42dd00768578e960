"""Networks that `fully_shard` divides between two and among three processes."""

import pytest
import torch
from sharded_jobs import (
    CASES,
    LARGE,
    continued,
    in_bfloat16,
    network,
    of_case,
    optimizer_of,
    resumed,
    spawned,
    train,
    trained,
)

SAVED = ["momentum", "adamw"]


def of_two(rank, processes, folder):
    from torch.distributed.device_mesh import init_device_mesh

    replicas = init_device_mesh("cpu", (2, 1), mesh_dim_names=("replicate", "shard"))
    return {
        "cases": {case: of_case(case, rank, processes) for case in CASES},
        "replicated": of_case("momentum", rank, processes, replicas),
        "bfloat16": in_bfloat16(rank, processes),
        "resumed": {name: resumed(rank, processes, f"{folder}/{name}", name) for name in SAVED},
    }


def of_three(rank, processes, folder):
    return {
        "cases": {case: of_case(case, rank, processes) for case in CASES},
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
        torch.testing.assert_close(process["norms"], expected["norms"], rtol=1e-12, atol=0)
        torch.testing.assert_close(process["trained"], expected["trained"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("processes", ["two", "three"])
def test_processes_that_share_a_network_train_as_one(processes, case, one, request):
    found = request.getfixturevalue(processes)
    assert_trained_as_one([process["cases"][case] for process in found], one[case])
    start = trained(network(), optimizer_of(network(), *CASES[case][:2]))
    still = {n for n, value in one[case]["trained"].items() if torch.equal(value, start[n])}
    assert {name for name in still if "unused" not in name} == set()


def test_replicas_of_a_sharded_network_train_as_one(two, one):
    assert_trained_as_one([process["replicated"] for process in two], one["momentum"])


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


@pytest.mark.parametrize("name", SAVED)
def test_another_number_of_processes_goes_on(name, two, three, folder):
    model = network(has_unused=False)
    torch.manual_seed(0)
    optimizer = optimizer_of(model, name, LARGE)
    train(model, optimizer)
    expected = trained(model, optimizer)
    found = [process["continued"][name] for process in three]
    found.append(continued(0, 1, f"{folder}/{name}", name))
    for arrays in found:
        torch.testing.assert_close(arrays, expected, rtol=0, atol=1e-12)
