"""Two processes: DistributedDataParallel, and what it exchanges."""

import pytest
import torch
from torch import multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD
from twins import parameters_of, same_bits

from do_conv.torch import DOConvOptimizer, convert

OPTIONS = {
    "identity": {},
    "he": {"depthwise_init": "he"},
    "large d_mul": {"d_mul": 11},
}


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Tanh(), nn.Conv2d(8, 4, 3, groups=2), nn.Tanh(),
        nn.ConvTranspose2d(4, 2, 2),
    ).double()  # fmt: skip


def images(step):
    generator = torch.Generator().manual_seed(step)
    return torch.randn(4, 3, 8, 8, dtype=torch.float64, generator=generator)


def momentum(model):
    return SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=0.01)


def train(model, optimizer, part=slice(None)):
    for step in range(5):
        optimizer.zero_grad()
        (model(images(step)[part]) - 0.3).square().mean().backward()
        optimizer.step()


def exchanged(model):
    """The bytes of gradients that a step exchanges."""
    from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

    bytes_of = []

    def count(group, bucket):
        bytes_of.append(bucket.buffer().nbytes)
        return allreduce_hook(group, bucket)

    parallel = DistributedDataParallel(model)
    parallel.register_comm_hook(None, count)
    parallel(images(0)[:2]).square().mean().backward()
    return sum(bytes_of)


def replicas(rank, options, is_wrapped_first):
    """What one of two processes has trained; each draws other random numbers."""
    model = network()
    torch.manual_seed(rank)
    if is_wrapped_first:
        optimizer = DOConvOptimizer(momentum(model), model, **options)
        parallel = DistributedDataParallel(model)
    else:
        parallel = DistributedDataParallel(model)
        optimizer = DOConvOptimizer(momentum(parallel), parallel, **options)
    kernels = optimizer.kernels
    parts = {n: (k.weight.detach().clone(), k.delta.detach().clone()) for n, k in kernels.items()}
    train(parallel, optimizer, slice(2 * rank, 2 * rank + 2))
    return {"parts": parts, "trained": parameters_of(model)}


def bytes_of_models(rank):
    plain, model = network(), network()
    DOConvOptimizer(momentum(model), model)
    return [exchanged(one) for one in (plain, model, convert(network()))]


def everything(rank):
    trained = {
        (name, first): replicas(rank, options, first)
        for name, options in OPTIONS.items()
        for first in (True, False)
    }
    return {"trained": trained, "bytes": bytes_of_models(rank)}


def job(rank, store, results):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", rank=rank, world_size=2, init_method=f"file://{store}"
    )
    torch.save(everything(rank), f"{results}{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each of two processes found."""
    folder = tmp_path_factory.mktemp("processes")
    store, results = str(folder / "store"), str(folder / "found")
    multiprocessing.spawn(job, (store, results), nprocs=2)
    return [torch.load(f"{results}{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("is_wrapped_first", [True, False])
@pytest.mark.parametrize("options", OPTIONS)
def test_two_processes_train_as_one(found, options, is_wrapped_first):
    first, second = (one["trained"][options, is_wrapped_first] for one in found)
    for name, (weight, delta) in first["parts"].items():
        assert torch.equal(weight, second["parts"][name][0])
        assert torch.equal(delta, second["parts"][name][1])
    assert same_bits(first["trained"], second["trained"])
    model = network()
    torch.manual_seed(0)  # as the first process
    optimizer = DOConvOptimizer(momentum(model), model, **OPTIONS[options])
    start = parameters_of(model)
    train(model, optimizer)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(first["trained"][name], parameter, rtol=0, atol=1e-12)
        assert not torch.equal(parameter, start[name])


def test_the_bytes_exchanged_are_those_of_the_plain_network(found):
    for plain, ours, layers in (one["bytes"] for one in found):
        assert ours == plain == sum(p.numel() * 8 for p in network().parameters())
        assert layers > plain
