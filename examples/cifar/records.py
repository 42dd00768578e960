"""What is kept of a run: a line for each epoch, a header, and a checkpoint until it has ended."""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path
from typing import Any

import torch
from torch import nn

import do_conv

# What makes two runs the same: another value is another run. The plain arm has no D.
SETTINGS = ("dataset", "network", "schedule")
SETTINGS_OF_D = ("stages", "depthwise_init", "d_mul")


class Record:
    """The files of one arm of one seed; made again, it takes the run up where it was left.

    Attributes:
        name: of the files, and of the run.
        epoch: the last one that is finished; model and optimizer are as they were after it.
    """

    def __init__(
        self,
        given: argparse.Namespace,
        arm: str,
        seed: int,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        self.arm, self.seed, self.model, self.optimizer = arm, seed, model, optimizer
        self.experiment = experiment(given, arm)
        of_d = () if arm == "plain" else SETTINGS_OF_D
        self.settings = {name: getattr(given, name) for name in (*SETTINGS, *of_d)}
        self.name = f"{self.experiment}-{arm}-seed{seed}"
        given.out.mkdir(parents=True, exist_ok=True)
        self.lines = given.out / f"{self.name}.jsonl"
        self.header = given.out / f"{self.name}.json"
        self.checkpoint = given.out / f"{self.name}.pt"
        self.epoch = 0
        self._take_up()

    def _take_up(self) -> None:
        """Read what is there; lines after the checkpoint's epoch are of an epoch not kept."""
        if self.header.exists():
            kept = json.loads(self.header.read_text(encoding="utf-8"))["settings"]
            if kept != self.settings:
                raise ValueError(
                    f"{self.header} was run with {kept}, not {self.settings}: name another --out"
                )
        else:
            self._write_header()
        lines = self._read_lines()
        if self.checkpoint.exists():
            state = torch.load(self.checkpoint, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.epoch = state["epoch"]
        elif lines:
            self.epoch = lines[-1]["epoch"]  # it has ended
        self._write_lines(lines[: self.epoch])

    def _write_header(self) -> None:
        header = {
            "experiment": self.experiment,
            "arm": self.arm,
            "seed": self.seed,
            "settings": self.settings,
            "versions": {
                "do_conv": do_conv.__version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
            "machine": {
                "system": platform.system(),
                "processor": _processor(),
                "cores": os.cpu_count(),
                "threads": torch.get_num_threads(),
            },
        }
        _replace(self.header, json.dumps(header, indent=1) + "\n")

    def _read_lines(self) -> list[dict[str, Any]]:
        if not self.lines.exists():
            return []
        return [json.loads(line) for line in self.lines.read_text(encoding="utf-8").splitlines()]

    def _write_lines(self, lines: list[dict[str, Any]]) -> None:
        _replace(self.lines, "".join(json.dumps(line) + "\n" for line in lines))

    def add(self, epoch: int, **found: Any) -> None:
        """Keep a finished epoch: its line, then the state after it."""
        line = {
            "experiment": self.experiment,
            "arm": self.arm,
            "seed": self.seed,
            "epoch": epoch,
            **found,
        }
        self._write_lines([*self._read_lines(), line])
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": epoch,
        }
        beside = self.checkpoint.with_suffix(".part")
        torch.save(state, beside)
        os.replace(beside, self.checkpoint)
        self.epoch = epoch

    def finish(self) -> None:
        """The run has ended: its lines are all that is needed."""
        self.checkpoint.unlink(missing_ok=True)


def experiment(given: argparse.Namespace, arm: str) -> str:
    """The name of what is compared: data set, network, and the options that are not the default.

    The plain arm has no D, so every variant of D is compared with the same plain runs.
    """
    parts = [given.dataset, given.network]
    if given.schedule != "short":
        parts.append(given.schedule)
    if arm != "plain":
        parts += _variant(given)
    return "-".join(parts)


def _variant(given: argparse.Namespace) -> list[str]:
    """The options of Tables 6, 7 and 8 that are not those of Table 1."""
    parts = []
    if given.stages != [0, 1, 2, 3]:
        parts.append("stages" + "".join(map(str, given.stages)))
    if given.depthwise_init != "identity":
        parts.append(given.depthwise_init)
    if given.d_mul != "MN":
        parts.append({"(M+2)(N+2)": "dmul-wider", "4MN": "dmul-4"}[given.d_mul])
    return parts


def _processor() -> str:
    """Its name where the system tells it, its architecture elsewhere."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text(encoding="utf-8").splitlines() if told.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _replace(path: Path, text: str) -> None:
    """Write beside the place and move there."""
    beside = path.with_name(path.name + ".part")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)
