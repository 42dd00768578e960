"""Train many seeds of a network on CIFAR side by side, as one network with an axis more.

    python -m examples.cifar.stacked --data DIR --seeds 0 1 2 3 4 --iterations 64000

needs CUDA for speed: there the step is compiled, and runs in bfloat16. Each seed has the start, the
batches and the files that `examples.cifar.train` gives it. The state is kept after each epoch, and
the same command takes it up. `examples.cifar.parts` packs CIFAR-100 into two small files.
"""

from __future__ import annotations

import argparse
import copy
import functools
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from examples import doors, states
from examples.cifar import data, train
from examples.cifar.schedules import BATCH, DECAY, MOMENTUM, Schedule
from examples.cifar.state import experiment, settings
from examples.records import Record

ITERATIONS = 64_000
DTYPES = {"bfloat16": torch.float32, "float32": torch.float32, "float64": torch.float64}


def main(arguments: list[str] | None = None) -> int:
    """Run each arm; what cannot be done is one sentence."""
    given = _arguments().parse_args(arguments)
    torch.set_num_threads(given.threads)
    device = torch.device(given.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    given.precision = given.precision or ("bfloat16" if device.type == "cuda" else "float32")
    try:
        images, test = (part.to(device) for part in data.load(given.dataset, given.data))
        for arm in given.arms:
            run(given, images, test, arm)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _arguments() -> argparse.ArgumentParser:
    parser = train.arguments(__doc__.splitlines()[0] + " It needs CUDA for speed.")
    parser.set_defaults(door=doors.LAYERS)
    add = parser.add_argument
    add("--iterations", type=int, default=ITERATIONS, help="rounded up to whole epochs")
    add("--precision", choices=DTYPES, help="default: bfloat16 on CUDA, else float32")
    return parser


class Stack:
    """The networks of some seeds, whose weights and statistics have an axis more, the first.

    Attributes:
        weights, statistics: by name, `(seeds, ...)`.
    """

    def __init__(self, networks: list[nn.Module]) -> None:
        self._network = copy.deepcopy(networks[0]).to("meta")
        weights, statistics = stack_module_state(networks)  # type: ignore[arg-type]
        self.weights = {name: one.detach().requires_grad_() for name, one in weights.items()}
        self.statistics = {name: one.detach() for name, one in statistics.items()}

    def __call__(self, images: Tensor, training: bool) -> Tensor:
        """The outputs `(seeds, n, classes)` of images `(seeds, n, ...)`."""
        self._network.train(training)
        return vmap(self._one)(self.weights, self.statistics, images)

    def _one(self, weights: Any, statistics: Any, images: Tensor) -> Tensor:
        outputs: Tensor = functional_call(self._network, (weights, statistics), (images,))
        return outputs

    def seed(self, which: int, network: nn.Module) -> nn.Module:
        """A network with the weights of one of the seeds."""
        network.load_state_dict({name: one[which] for name, one in self.state_dict().items()})
        return network

    def state_dict(self) -> dict[str, Tensor]:
        """Weights and statistics by name."""
        return {**self.weights, **self.statistics}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take weights and statistics."""
        for name, one in self.state_dict().items():
            one.copy_(state[name])


def made(
    given: argparse.Namespace, arm: str, device: torch.device | str
) -> tuple[Stack, torch.optim.SGD]:
    """The stack of the seeds' networks as they start, and its optimizer."""
    alone = [train.made(given, arm, seed, device)[0] for seed in given.seeds]
    stack = Stack([one.to(DTYPES[given.precision]) for one in alone])
    # SGD treats every number alone, so a stack is trained as each of its seeds.
    return stack, torch.optim.SGD(stack.weights.values(), given.rate, MOMENTUM, weight_decay=DECAY)


def schedule(iterations: int, steps: int) -> Schedule:
    """That of He et al. over so many iterations: a tenth after a half, and after three quarters."""

    def factor(step: int, _: int) -> float:
        return 1.0 if 2 * step < iterations else 0.1 if 4 * step < 3 * iterations else 0.01

    return Schedule(-(-iterations // steps), factor)


def run(given: argparse.Namespace, images: data.Images, test: data.Images, arm: str) -> None:
    """Train all seeds of an arm to their end, from where they were left."""
    given = copy.copy(given)
    plan = schedule(given.iterations, -(-len(images) // BATCH))
    whole = given.iterations == ITERATIONS
    given.schedule = "full" if whole else f"{given.iterations}iterations"
    more = {"epochs": plan.epochs, "precision": given.precision}
    name, device = experiment(given, arm), states.accelerator(images.device)
    of_run = {**settings(given, arm), **more}
    found = {
        seed: Record(given.out, name, arm, seed, of_run, ("torch",), given.threads, device)
        for seed in given.seeds
    }
    ended = {seed for seed, one in found.items() if len(one.lines) == plan.epochs}
    given.seeds = _left(given, f"{name}-{arm}-seeds", ended)
    if not given.seeds:
        return
    records = [found[seed] for seed in given.seeds]
    stack, optimizer = made(given, arm, images.device)
    parts = {"stack": stack, "optimizer": optimizer}
    file = given.out / f"{name}-{arm}-seeds{'-'.join(map(str, given.seeds))}.pt"
    done = states.take_up(parts, file) if file.exists() else 0
    for one in records:
        one.keep(one.lines[:done])  # those after the state are of an epoch that was not kept
    step = compiled(given, stack, images.device)
    for epoch in range(done + 1, plan.epochs + 1):
        started = time.perf_counter()
        losses = train_epoch(given.seeds, stack, optimizer, images, plan, epoch, step)
        accuracies = evaluate(stack, test)
        seconds = round(time.perf_counter() - started, 1)
        for one, accuracy, loss in zip(records, accuracies, losses, strict=True):
            one.add(epoch, accuracy=accuracy, loss=loss, seconds=seconds)
        states.keep(parts, epoch, file)
        mean = sum(accuracies) / len(accuracies)
        print(
            f"{name}-{arm}: epoch {epoch} of {plan.epochs}, test accuracy {mean:.2f} % over "
            f"{len(accuracies)} seeds, {seconds:.0f} s",
            flush=True,
        )
    _finish(given, arm, stack, records)
    file.unlink(missing_ok=True)


def _left(given: argparse.Namespace, start: str, ended: set[int]) -> list[int]:
    """The seeds that are not trained to their end: those of a state, or all of them.

    Raises:
        ValueError: if a state has some of them, so that it would be lost.
    """
    left = [seed for seed in given.seeds if seed not in ended]
    for file in sorted(given.out.glob(f"{start}*.pt")):
        of_state = [int(seed) for seed in file.stem.removeprefix(start).split("-")]
        if set(of_state).isdisjoint(given.seeds):
            continue
        if not set(left) <= set(of_state) <= set(given.seeds):
            raise ValueError(
                f"{file} is the state of the seeds {', '.join(map(str, of_state))}: train them to "
                "their end first, in a run of their own, or remove it"
            )
        return of_state
    return left


def _finish(given: argparse.Namespace, arm: str, stack: Stack, records: list[Record]) -> None:
    for which, (seed, record) in enumerate(zip(given.seeds, records, strict=True)):
        model, optimizer, door = train.made(given, arm, seed)
        if arm == "do-conv":
            states.note_kernels(record, door, stack.seed(which, model), optimizer)


def compiled(given: argparse.Namespace, stack: Stack, device: torch.device) -> Any:
    """The loss of each seed in a batch `(seeds,)`: on CUDA compiled, in the precision given."""
    step = functools.partial(losses_of, stack)
    if given.precision == "bfloat16":
        step = torch.autocast(device.type, torch.bfloat16)(step)
    if device.type != "cuda":
        return step
    graph = torch.compile(step, dynamic=False)

    def of_batch(images: Tensor, labels: Tensor) -> Tensor:
        # A graph takes minutes to compile: the smaller batch at an epoch's end does without.
        return (graph if labels.shape[1] == BATCH else step)(images, labels)

    return of_batch


def losses_of(stack: Stack, images: Tensor, labels: Tensor) -> Tensor:
    """The mean loss of each seed."""
    outputs = stack(images, training=True).flatten(0, 1)
    outputs = outputs.float() if outputs.dtype == torch.bfloat16 else outputs
    losses = nn.functional.cross_entropy(outputs, labels.flatten(), reduction="none")
    return losses.view(labels.shape).mean(1)


def train_epoch(
    seeds: list[int], stack: Stack, optimizer: torch.optim.Optimizer, images: data.Images,
    plan: Schedule, epoch: int, step: Any,
) -> list[float]:  # fmt: skip
    """One pass over the training images for every seed; each one's mean loss."""
    steps = -(-len(images) // BATCH)
    dtype = next(iter(stack.weights.values())).dtype
    totals = torch.zeros(len(seeds), device=images.device)
    for number, (inputs, labels) in enumerate(batches(seeds, images, epoch)):
        factor = plan.factor((epoch - 1) * steps + number, steps)
        for group in optimizer.param_groups:
            group["lr"] = optimizer.defaults["lr"] * factor
        losses = step(inputs.to(dtype), labels)
        optimizer.zero_grad()
        losses.sum().backward()  # a seed's weights take part in its own loss alone
        optimizer.step()
        totals += losses.detach() * labels.shape[1]
    return [float(total) / len(images) for total in totals]


def batches(seeds: list[int], images: data.Images, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Images `(seeds, n, 3, 32, 32)` and labels `(seeds, n)`: every seed's own batches."""
    alone = [
        images.shuffled(BATCH, torch.Generator().manual_seed(states.epoch_seed(seed, epoch)))
        for seed in seeds
    ]
    for found in zip(*alone, strict=True):
        inputs, labels = zip(*found, strict=True)
        yield torch.stack(inputs), torch.stack(labels)


@torch.no_grad()
def evaluate(stack: Stack, test: data.Images) -> list[float]:
    """Each seed's test accuracy in %."""
    some = next(iter(stack.weights.values()))
    right = torch.zeros(len(some), device=test.device)
    for images, labels in test.in_order(train.TEST_BATCH):
        same = images.to(some.dtype).expand(len(some), *images.shape)
        right += (stack(same, training=False).argmax(2) == labels).sum(1)
    return [100.0 * float(one) / len(test) for one in right]


if __name__ == "__main__":
    sys.exit(main())
