"""Networks trained plain and with DO-Conv, from the same start on the same batches.

DO-Conv comes in layers, which are folded, and in the optimizer, beside a network that stays plain.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from do_conv import frameworks
from do_conv.adapter import Adapter
from do_conv.demo import digits, network
from do_conv.demo.digits import Digits
from do_conv.demo.network import Network
from do_conv.parity.comparison import relative_error

ARMS = ("plain", "layers", "optimizer")
GOAL = 95.0


@dataclass
class Outcome:
    """The results of one framework.

    Attributes:
        accuracy: test accuracy in percent, `[arm][seed][epoch]`; of the arms that there are.
        equal_at_start: whether all arms gave the same bits before training, for every seed.
        fold_error: the largest difference folding made, relative to the largest output.
        parameters: of the network with layers in training, and after folding.
        seconds: median time of the test set through the plain network, that with layers ("layers")
            and the folded one.
        kernels: W and D' of the first seed's trained layers.
    """

    framework: str
    versions: str
    accuracy: dict[str, list[list[float]]] = field(default_factory=dict)
    equal_at_start: bool = True
    fold_error: float = 0.0
    parameters: tuple[int, int] = (0, 0)
    seconds: dict[str, float] = field(default_factory=dict)
    kernels: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """True if the start was exact and folding changed nothing."""
        tolerance = frameworks.BACKENDS[self.framework].fold_tolerance
        return self.equal_at_start and self.fold_error <= tolerance

    def epochs_to_goal(self, arm: str) -> list[int | None]:
        """For each seed the first epoch at or above the goal; None if it was never reached."""
        return [
            next((e for e, percent in enumerate(curve, 1) if percent >= GOAL), None)
            for curve in self.accuracy[arm]
        ]


def arms(framework: str) -> tuple[str, ...]:
    """The arms that a framework has."""
    is_there = frameworks.adapter(framework).no_optimizer(network.OPTIONS) is None
    return ARMS if is_there else ARMS[:-1]


def run(
    framework: str, data: Digits, *, seeds: int, epochs: int, advance: Callable[[], object]
) -> Outcome:
    """Train all arms for every seed, fold, compare and time; `advance` is called each epoch."""
    adapter = frameworks.adapter(framework)
    outcome = Outcome(framework, adapter.versions())
    with adapter.precision(network.DTYPE):
        _run(outcome, adapter, data, seeds, epochs, advance)
    return outcome


def _run(
    outcome: Outcome, adapter: Adapter, data: Digits, seeds: int, epochs: int,
    advance: Callable[[], object],
) -> None:  # fmt: skip
    for seed in range(seeds):
        plain = network.plain(adapter, seed)
        networks = {"plain": plain, "layers": plain.over_parameterized()}
        if "optimizer" in arms(outcome.framework):
            networks["optimizer"] = network.plain(adapter, seed).in_optimizer()
        first, *others = (net.logits(data.test_x) for net in networks.values())
        outcome.equal_at_start &= all(np.array_equal(first, other) for other in others)
        for arm, net in networks.items():
            curve = []
            for epoch in range(epochs):
                for x, y in digits.batches(data, seed, epoch):
                    net.train(x, y)
                correct = net.logits(data.test_x).argmax(1) == data.test_y
                curve.append(100 * float(correct.mean()))
                advance()
            outcome.accuracy.setdefault(arm, []).append(curve)
        trained = networks["layers"]
        folded = trained.folded()
        error = relative_error(folded.logits(data.test_x), trained.logits(data.test_x))
        outcome.fold_error = max(outcome.fold_error, error)
        if seed == 0:
            outcome.kernels = trained.kernels()
            outcome.parameters = (trained.parameters(), folded.parameters())
            timed = {"plain": plain, "layers": trained, "folded": folded}
            outcome.seconds = _time(timed, data.test_x)


def _time(networks: dict[str, Network], x: np.ndarray, rounds: int = 15) -> dict[str, float]:
    """The median time of each network, run in turn so that other load slows all alike."""
    spent: dict[str, list[float]] = {name: [] for name in networks}
    for _ in range(rounds):
        for name, net in networks.items():
            began = time.perf_counter()
            net.logits(x)
            spent[name].append(time.perf_counter() - began)
    return {name: statistics.median(seconds) for name, seconds in spent.items()}
