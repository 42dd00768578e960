"""Training with `DOConvOptimizer`, in one process or in several that share a network."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import multiprocessing, nn
from torch.func import functional_call
from torch.optim import SGD, AdamW
from twins import same_bits

from do_conv.torch import DOConvOptimizer

BATCH = 6
STEPS = 4
OPTIMIZERS = {
    "sgd": lambda p: SGD(p, 0.05),
    "momentum": lambda p: SGD(p, 0.05, momentum=0.9, weight_decay=0.01),
    "foreach": lambda p: SGD(p, 0.05, momentum=0.9, nesterov=True, foreach=True),
    "adamw": lambda p: AdamW(p, 0.01, eps=1e-4, weight_decay=0.1, fused=True),
}
CLIPPED = 0.5, 2.0
LARGE = {"d_mul": 11, "depthwise_init": "he"}
# An optimizer, options, and the norm to clip to with its p.
CASES = {
    "momentum": ("momentum", {}, (0.3, 2.0)),
    "momentum, large d_mul, he": ("momentum", LARGE, (2.0, 1.0)),
    "adamw, large d_mul, he": ("adamw", LARGE, None),
    "foreach, options of d": ("foreach", {"depthwise_options": {"lr": 0.01}}, (0.05, torch.inf)),
}


def network(dtype=torch.float64, has_unused=True):
    """Kernels whose rows two and three processes share: unevenly, across groups, and one alone."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 5, 3), nn.Tanh(), nn.Conv2d(5, 15, (1, 3), groups=5), nn.Tanh(),
        nn.ConvTranspose2d(15, 10, 2, groups=5), nn.Tanh(), nn.Conv2d(10, 10, 2, groups=10),
        nn.Tanh(), nn.Conv2d(10, 1, 2),
    )  # fmt: skip
    if has_unused:
        model[0].register_module("unused", nn.Conv2d(2, 3, 3))  # without a gradient
    return model.to(dtype)


def optimizer_of(model, name, options):
    return DOConvOptimizer(OPTIMIZERS[name](model.parameters()), model, **options)


def part_of(rank, processes):
    each = BATCH // processes
    return slice(rank * each, (rank + 1) * each)


def images(step, dtype=torch.float64):
    generator = torch.Generator().manual_seed(step)
    return torch.randn(2, BATCH, 3, 7, 7, dtype=torch.float64, generator=generator).to(dtype)


def loss_of(out):
    return (out.double() - 0.3).square().mean()


def train(model, optimizer, part=slice(None), clipping=None, steps=range(STEPS)):
    """Train in steps of two micro-batches; the norms that were clipped."""
    norms = []
    for step in steps:
        optimizer.zero_grad()
        for number, x in enumerate(images(step)):
            if hasattr(model, "set_requires_gradient_sync"):
                model.set_requires_gradient_sync(number == 1)
            loss_of(model(x[part])).backward()
        if clipping:
            norms.append(optimizer.clip_grad_norm_(*clipping))
        optimizer.step()
    return norms


def whole(array):
    return (array.full_tensor() if hasattr(array, "full_tensor") else array).detach().clone()


def held(array):
    """What this process holds of an array."""
    return (array.to_local() if hasattr(array, "to_local") else array).detach()


def trained(model, optimizer):
    """All that has been trained, as whole arrays."""
    arrays = {name: whole(p) for name, p in model.named_parameters()}
    for name, kernel in optimizer.kernels.items():
        arrays |= {f"{name}.W": whole(kernel.weight), f"{name}.D": whole(kernel.delta)}
    return arrays


def sharded(mesh=None, dtype=torch.float64, has_unused=True, **options):
    """The network, of which a part is sharded by itself."""
    from torch.distributed.fsdp import fully_shard

    model = network(dtype, has_unused)
    fully_shard(model[2], mesh=mesh, **options)
    return fully_shard(model, mesh=mesh, **options)


def of_case(case, rank=0, processes=1, mesh=None):
    name, options, clipping = CASES[case]
    model = network() if processes == 1 else sharded(mesh)
    torch.manual_seed(rank)  # the start is that of the first process
    optimizer = optimizer_of(model, name, options)
    norms = train(model, optimizer, part_of(rank, processes), clipping)
    kernels = optimizer.kernels.values()
    shares = [(held(k.parameter).shape[:2], held(k.weight).shape[:2]) for k in kernels]
    return {
        "trained": trained(model, optimizer), "norms": norms, "shares": shares,
        "deltas": [held(kernel.delta).clone() for kernel in kernels],
    }  # fmt: skip


def in_bfloat16(rank, processes):
    """Forward and backward in bfloat16; one process takes the same parts of the batch."""
    if processes > 1:
        from torch.distributed.fsdp import MixedPrecisionPolicy

        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        model = sharded(dtype=torch.float32, mp_policy=policy)
    else:
        model = network(torch.float32)
    optimizer = optimizer_of(model, "momentum", {})
    for step in range(STEPS):
        optimizer.zero_grad()
        x = images(step, torch.float32)[0]
        if processes > 1:
            loss_of(model(x[part_of(rank, processes)])).backward()
        else:
            narrow = {name: p.bfloat16() for name, p in model.named_parameters()}
            for number in range(2):
                out = functional_call(model, narrow, x[part_of(number, 2)].bfloat16())
                (loss_of(out) / 2).backward(retain_graph=True)
        optimizer.step()
    dtypes = {part.dtype for kernel in optimizer.kernels.values() for _, part in kernel.parts}
    return {"trained": trained(model, optimizer), "dtypes": dtypes}


def states_of(model, optimizer):
    from torch.distributed.checkpoint.state_dict import get_state_dict

    return dict(zip(("model", "optimizer"), get_state_dict(model, optimizer), strict=True))


def load(model, optimizer, folder):
    from torch.distributed import checkpoint
    from torch.distributed.checkpoint.state_dict import set_state_dict

    states = states_of(model, optimizer)
    checkpoint.load(states, checkpoint_id=folder)
    set_state_dict(
        model,
        optimizer,
        model_state_dict=states["model"],
        optim_state_dict=states["optimizer"],
    )


def resumed(rank, processes, folder, name):
    """The files of a training in its middle, and whether it goes on from them to the last bit."""
    from torch.distributed import checkpoint
    from torch.distributed.checkpoint.state_dict import (
        StateDictOptions,
        get_optimizer_state_dict,
        set_optimizer_state_dict,
    )

    part, first, last = part_of(rank, processes), range(2), range(2, STEPS)
    model = sharded(has_unused=False)
    optimizer = optimizer_of(model, name, LARGE)
    train(model, optimizer, part, CLIPPED, steps=first)
    checkpoint.save(states_of(model, optimizer), checkpoint_id=folder)
    full = StateDictOptions(full_state_dict=True)
    of_optimizer = copy.deepcopy(get_optimizer_state_dict(model, optimizer, options=full))
    of_model = {key: value.clone() for key, value in model.state_dict().items()}
    train(model, optimizer, part, CLIPPED, steps=last)
    expected = trained(model, optimizer)
    again = sharded(has_unused=False)
    torch.manual_seed(5)  # another start
    restarted = optimizer_of(again, name, LARGE)
    load(again, restarted, folder)
    train(again, restarted, part, CLIPPED, steps=last)
    from_files = same_bits(trained(again, restarted), expected)
    again = sharded(has_unused=False)
    restarted = optimizer_of(again, name, LARGE)
    again.load_state_dict(of_model)
    set_optimizer_state_dict(again, restarted, of_optimizer, options=full)
    train(again, restarted, part, CLIPPED, steps=last)
    from_whole = same_bits(trained(again, restarted), expected)
    return {"from files": from_files, "from whole arrays": from_whole}


def continued(rank, processes, folder, name):
    """What another number of processes makes of the files."""
    model = sharded(has_unused=False) if processes > 1 else network(has_unused=False)
    optimizer = optimizer_of(model, name, LARGE)
    load(model, optimizer, folder)
    train(model, optimizer, part_of(rank, processes), CLIPPED, range(2, STEPS))
    return trained(model, optimizer)


def spawned(job, processes, folder, *arguments):
    """What each of a number of processes has found."""
    folder = Path(folder)
    arguments = (job, processes, str(folder), *arguments)
    multiprocessing.spawn(_run, arguments, nprocs=processes)
    return [torch.load(folder / f"found{rank}.pt", weights_only=False) for rank in range(processes)]


def _run(rank, job, processes, folder, *arguments):
    torch.set_num_threads(1)
    store = f"file://{folder}/store{processes}"
    torch.distributed.init_process_group("gloo", rank=rank, world_size=processes, init_method=store)
    torch.save(job(rank, processes, *arguments), f"{folder}/found{rank}.pt")
    torch.distributed.destroy_process_group()
