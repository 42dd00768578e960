"""Train a plain network and the same with DO-Conv on CIFAR, from one start, on the same batches.

    python -m examples.cifar.train --data DIR --network resnet_v2_20 --schedule short --seeds 0 1 2

writes a line for each epoch of each run to `examples/results/`, where a run that was interrupted is
taken up again. Tables 1, 6 and 8 of the paper are rows of options: see README.md. Under
`torchrun --nproc-per-node N` each process takes its share of the runs; several may share a device.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from pathlib import Path

import torch
from torch import nn

from do_conv import choices
from examples import doors, variants
from examples.cifar import data, networks, schedules
from examples.cifar.schedules import BATCH, DECAY, MOMENTUM, RATE
from examples.cifar.state import STAGES, Run
from examples.records import ARMS, RESULTS
from examples.states import epoch_seed

TEST_BATCH = 500


def main(arguments: list[str] | None = None) -> int:
    """Run every seed of every arm; what cannot be done is one sentence."""
    given = _arguments().parse_args(arguments)
    try:
        return _run_all(given)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2


def _run_all(given: argparse.Namespace) -> int:
    torch.set_num_threads(given.threads)
    # A network this small is best trained by one process: so what is shared out is the runs, and
    # each has the result that it has alone.
    rank, processes = (int(os.environ.get(one, number)) for one, number in _TORCHRUN)
    device = torch.device(given.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if device.type == "cuda" and processes > 1:
        # More processes than devices share them: a network this small does not fill one.
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    train, test = (part.to(device) for part in data.load(given.dataset, given.data))
    runs = itertools.product(given.seeds, given.arms)
    for seed, arm in itertools.islice(runs, rank, None, processes):
        run(given, train, test, arm, seed)
    return 0


_TORCHRUN = (("RANK", 0), ("WORLD_SIZE", 1))


def _arguments() -> argparse.ArgumentParser:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--schedule", choices=schedules.SCHEDULES, default="short")
    doors.add_to(parser)
    return parser


def arguments(about: str) -> argparse.ArgumentParser:
    """The options of all ways to train on CIFAR."""
    parser = argparse.ArgumentParser(description=about)
    add = parser.add_argument
    add("--data", required=True, help="the folder of the official binary version")
    add("--dataset", choices=data.FOLDERS, default="cifar100")
    add(
        "--network",
        default="resnet_v2_20",
        help="plain_N, resnet_v1_N, resnet_v2_N, mobilenet_v2 or resnext_29",
    )
    add("--arms", nargs="+", choices=ARMS, default=ARMS)
    add("--seeds", nargs="+", type=int, default=[0, 1, 2])
    add(
        "--stages", nargs="+", type=int, choices=STAGES, default=STAGES,
        help="Table 6: those converted",
    )  # fmt: skip
    add("--rate", type=float, default=RATE, help="the learning rate, which a schedule multiplies")
    variants.add_to(parser)
    add("--device", help="default: cuda if there is one, else cpu")
    add("--threads", type=int, default=torch.get_num_threads())
    add("--out", type=Path, default=RESULTS, help="where the results go")
    return parser


def made(
    given: argparse.Namespace, arm: str, seed: int, device: torch.device | str = "cpu"
) -> tuple[nn.Module, torch.optim.Optimizer, doors.Door]:
    """The network of a run, on a device, its optimizer, and the door: all have the same weights."""
    of_d = {**variants.of_convert(given), "where": choices.stages(given.stages)}
    door = doors.Door(arm, given.door, **of_d)
    torch.manual_seed(seed)
    # The identity start draws nothing; another one draws after the weights, where they are, as the
    # optimizer's does.
    plain = networks.network(given.network, data.CLASSES[given.dataset]).to(device)
    model = door.network(plain).to(memory_format=torch.channels_last)
    sgd = torch.optim.SGD(model.parameters(), given.rate, MOMENTUM, weight_decay=DECAY)
    return model, door.optimizer(sgd, model), door


def run(
    given: argparse.Namespace, train: data.Images, test: data.Images, arm: str, seed: int
) -> None:
    """Train one arm of one seed to its end, from where it was left."""
    schedule = schedules.SCHEDULES[given.schedule]
    model, optimizer, door = made(given, arm, seed, train.device)
    kept = Run(given, arm, seed, model, optimizer, door)
    for epoch in range(kept.epoch + 1, schedule.epochs + 1):
        started = time.perf_counter()
        loss = train_epoch(model, optimizer, train, schedule, epoch, seed)
        accuracy = evaluate(model, test)
        seconds = time.perf_counter() - started
        kept.add(epoch, accuracy=accuracy, loss=loss, seconds=round(seconds, 1))
        print(
            f"{kept.record.name}: epoch {epoch} of {schedule.epochs}, loss {loss:.3f}, "
            f"test accuracy {accuracy:.2f} %, {seconds:.0f} s",
            flush=True,
        )
    kept.finish()


def train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    train: data.Images,
    schedule: schedules.Schedule,
    epoch: int,
    seed: int,
) -> float:
    """One pass over the training images; the mean loss.

    The order and the augmentation depend on the seed and the epoch alone, so both arms see the same
    batches, and a run that is taken up sees those it would have seen.
    """
    generator = torch.Generator().manual_seed(epoch_seed(seed, epoch))
    steps = -(-len(train) // BATCH)
    total = 0.0
    model.train()
    for step, (images, labels) in enumerate(train.shuffled(BATCH, generator)):
        factor = schedule.factor((epoch - 1) * steps + step, steps)
        for group in optimizer.param_groups:
            group["lr"] = optimizer.defaults["lr"] * factor
        loss = nn.functional.cross_entropy(model(channels_last(images)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(labels)
    return total / len(train)


def channels_last(images: torch.Tensor) -> torch.Tensor:
    """The images in the order of axes that is fastest on a CPU and on a GPU."""
    return images.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def evaluate(model: nn.Module, test: data.Images) -> float:
    """The test accuracy in %."""
    model.eval()
    right = 0
    for images, labels in test.in_order(TEST_BATCH):
        right += (model(channels_last(images)).argmax(1) == labels).sum().item()
    return 100.0 * right / len(test)


if __name__ == "__main__":
    sys.exit(main())
