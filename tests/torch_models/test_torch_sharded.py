"""Networks whose parameters two processes share: PyTorch's FSDP, the newer and the older."""

import pytest
import torch
from torch import multiprocessing, nn

from do_conv import DOConvError
from do_conv.torch import (
    DepthwiseSeparableConv2d,
    DOConv2d,
    DOConvTranspose2d,
    composed,
    convert,
    fold,
    folded_state_dict,
    over_parameterize,
    verify,
)


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        DOConv2d(3, 8, 3, groups=1, depthwise_init="he"), nn.BatchNorm2d(8), nn.ReLU(),
        DOConv2d(8, 8, 3, groups=2, d_mul=11, depthwise_init="he"),
        over_parameterize(nn.Conv2d(8, 4, 3), depthwise_init="he"),
        DepthwiseSeparableConv2d(4, 6, 3, padding=1), nn.Conv2d(6, 3, 1),
        DOConvTranspose2d(3, 3, 2, depthwise_init="he"),
    )  # fmt: skip


def plain_network():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=2),
        nn.Conv2d(8, 4, 3), DepthwiseSeparableConv2d(4, 6, 3, padding=1).fold(), nn.Conv2d(6, 3, 1),
        nn.ConvTranspose2d(3, 3, 2),
    )  # fmt: skip


def refused(function, *arguments):
    """The message with which a function refuses."""
    with pytest.raises(DOConvError) as error:
        function(*arguments)
    return str(error.value)


def enter_composed(model):
    with composed(model):
        pass


def all_refused(model, x):
    calls = {
        "fold": lambda: fold(model), "in place": lambda: fold(model, inplace=True),
        "convert": lambda: convert(model), "verify": lambda: verify(model, model, x),
        "composed": lambda: enter_composed(model),
    }  # fmt: skip
    return {name: refused(call) for name, call in calls.items()}


def newer(x):
    from torch.distributed.fsdp import fully_shard

    model = network()
    for child in model:
        if list(child.parameters()):
            fully_shard(child)
    fully_shard(model)
    messages = all_refused(model, x)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    model(x).square().mean().backward()
    optimizer.step()
    state = folded_state_dict(model)
    one = network()  # what a single process would fold
    one.load_state_dict(
        {
            name: value.full_tensor() if hasattr(value, "full_tensor") else value
            for name, value in model.state_dict().items()
        }
    )
    for name, expected in folded_state_dict(one).items():
        assert torch.equal(state[name], expected)
    return {"messages": messages, "state": state, "out": model.eval()(x).detach()}


def older(x, whole):
    from torch.distributed.fsdp import FullyShardedDataParallel

    model = FullyShardedDataParallel(
        network().eval(), use_orig_params=whole, device_id=torch.device("cpu")
    )
    messages = {**all_refused(model, x), "state": refused(folded_state_dict, model)}
    with FullyShardedDataParallel.summon_full_params(model):
        state = {name: value.clone() for name, value in folded_state_dict(model).items()}
    return {"messages": messages, "state": state, "out": model(x).detach()}


KINDS = {"newer": newer, "older": lambda x: older(x, True), "flat": lambda x: older(x, False)}


def job(rank, store, results, kind):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", rank=rank, world_size=2, init_method=f"file://{store}"
    )
    torch.save(KINDS[kind](images()), f"{results}{rank}.pt")
    torch.distributed.destroy_process_group()


def images():
    return torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_give_the_whole_state_of_the_plain_network(kind, tmp_path):
    store, results = tmp_path / "store", tmp_path / "found"
    multiprocessing.spawn(job, (str(store), str(results), kind), nprocs=2)
    for rank in range(2):
        found = torch.load(f"{results}{rank}.pt")
        assert {type(value) for value in found["state"].values()} == {torch.Tensor}
        plain = plain_network()
        plain.load_state_dict(found["state"], strict=True)
        torch.testing.assert_close(plain.eval()(images()), found["out"])
        assert all(
            "the parameters of a model must be whole" in m for m in found["messages"].values()
        )
        assert "convert it before fully_shard." in found["messages"]["convert"]
        assert "load folded_state_dict(model) into the plain" in found["messages"]["fold"]
        if kind != "newer":
            assert "summon_full_params(model)." in found["messages"]["state"]


def test_a_state_that_no_process_shares_is_the_same_after_the_import():
    import torch.distributed.fsdp  # noqa: F401  # what is asked of every model from then on

    model = network()
    plain = plain_network()
    plain.load_state_dict(folded_state_dict(model), strict=True)
    assert type(fold(model)[0]) is nn.Conv2d
