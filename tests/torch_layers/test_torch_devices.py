"""Where and how parameters are kept: device, dtype, default dtype, memory format, processes."""

import pytest
import torch
from torch import multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from do_conv import DOConvError
from do_conv.torch import DOConv2d, DOConv3d


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dtype_and_device_as_arguments_and_afterwards(kind, dtype):
    made, cast = kind(dtype=dtype, device="cpu"), kind().to(dtype)
    for layer in (made, cast):
        assert {p.dtype for p in layer.parameters()} == {dtype}
        assert layer.composed_weight().dtype == dtype
        assert layer(torch.zeros(1, 4, 7, 6, dtype=dtype)).dtype == dtype
        assert {p.dtype for p in layer.fold().parameters()} == {dtype}


def test_the_default_dtype(kind):
    torch.set_default_dtype(torch.float64)
    try:
        assert {p.dtype for p in kind().parameters()} == {torch.float64}
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_default_device(kind):
    with torch.device("meta"):
        layer = kind()
    assert all(p.is_meta for p in layer.parameters())


def test_made_on_the_meta_device_and_started_later(kind, composition, x):
    torch.manual_seed(0)
    state = torch.get_rng_state()
    layer = kind(device="meta", composition=composition)
    assert torch.equal(torch.get_rng_state(), state)
    assert layer(x.to("meta")).is_meta
    layer.to_empty(device="cpu").reset_parameters()
    torch.manual_seed(0)
    expected = kind(composition=composition)
    assert torch.equal(layer(x), expected(x))


def test_parameters_skipped_at_first():
    layer = nn.utils.skip_init(DOConv2d, 4, 6, 3)
    assert layer.depthwise_delta.device.type == "cpu"


@pytest.mark.parametrize(
    ("ours", "memory", "size", "composition"),
    [
        (DOConv2d, torch.channels_last, (7, 6), "kernel"),
        (DOConv2d, torch.channels_last, (7, 6), "feature"),
        (DOConv3d, torch.channels_last_3d, (4, 5, 6), "kernel"),
    ],
)
def test_channels_last(ours, memory, size, composition):
    network = nn.Sequential(
        ours(4, 6, 3, composition=composition), nn.ReLU(), ours(6, 5, 2, composition=composition)
    )
    for layer in network[::2]:
        nn.init.normal_(layer.depthwise_delta, std=0.3)
    x = torch.randn(2, 4, *size)
    expected = network(x)
    out = network.to(memory_format=memory)(x.to(memory_format=memory))
    assert out.is_contiguous(memory_format=memory)
    torch.testing.assert_close(out, expected)
    assert network[0].composed_weight().is_contiguous(memory_format=memory)
    assert network[0].fold().weight.is_contiguous(memory_format=memory)


def network():
    torch.manual_seed(0)
    layers = [DOConv2d(3, 4, 3), nn.ReLU(), DOConv2d(4, 4, 3, groups=2, d_mul=11), nn.Flatten()]
    return nn.Sequential(*layers).double()


def steps(model, x):
    """Two steps of SGD on the mean over the batch; the network's parameters afterwards."""
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    for _ in range(2):
        optimizer.zero_grad()
        model(x).square().sum(1).mean().backward()
        optimizer.step()
    return {name.removeprefix("module."): p.detach() for name, p in model.named_parameters()}


def images():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(4, 3, 8, 8, dtype=torch.float64, generator=generator)


def train_in_process(rank, store, results):
    torch.set_num_threads(1)
    options = {"rank": rank, "world_size": 2, "init_method": f"file://{store}"}
    torch.distributed.init_process_group("gloo", **options)
    trained = steps(DistributedDataParallel(network()), images()[2 * rank : 2 * rank + 2])
    torch.save(trained, f"{results}{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_train_as_one(tmp_path):
    store, results = tmp_path / "store", tmp_path / "trained"
    multiprocessing.spawn(train_in_process, (str(store), str(results)), nprocs=2)
    expected = steps(network(), images())
    start = dict(network().named_parameters())
    for rank in range(2):
        found = torch.load(f"{results}{rank}.pt")
        for name, parameter in expected.items():
            torch.testing.assert_close(found[name], parameter)
            assert not torch.equal(parameter, start[name])


def test_exception_another_dtype_on_the_meta_device():
    layer = DOConv2d(3, 4, 3, device="meta")
    with pytest.raises(DOConvError, match=r"float32.*float16"):
        layer(torch.zeros(1, 3, 6, 6, device="meta", dtype=torch.float16))
