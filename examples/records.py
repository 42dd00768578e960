"""What is kept of a training run: a line for each epoch, and a header.

`RESULTS/EXPERIMENT-ARM-seedN.jsonl` has one JSON object a line, with at least `experiment`, `arm`,
`seed`, `epoch` (from 1) and `accuracy` (in %), or in its place what the setting `measures` names;
`.json` beside it has the run's settings, versions and machine.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import do_conv
from do_conv.files import replacing
from examples import doors

ARMS = ("plain", "do-conv")
RESULTS = Path(__file__).parent / "results"


class Record:
    """The files of one arm of one seed of an experiment.

    Args:
        folder: where they are.
        experiment: what is compared, such as "mnist-torch".
        settings: what makes two runs the same: with others, it is refused.
        packages: those whose versions are kept.
        threads: how many the run computes with.
        device: the accelerator that it computes on; None for the processor.

    Attributes:
        name: of the run, and of its files without their endings.
        lines: the epochs that are kept.

    Raises:
        DOConvError: if a file cannot be written.
        ValueError: if the files are of a run with other settings, or damaged.
    """

    def __init__(
        self, folder: Path, experiment: str, arm: str, seed: int, settings: Mapping[str, Any],
        packages: tuple[str, ...], threads: int, device: str | None = None,
    ) -> None:  # fmt: skip
        self.arm = arm
        self._whose = {"experiment": experiment, "arm": arm, "seed": seed}
        self.name = f"{experiment}-{arm}-seed{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        self._file, self._header = folder / f"{self.name}.jsonl", folder / f"{self.name}.json"
        machine = {
            "system": platform.system(), "processor": processor(), "cores": os.cpu_count(),
            "threads": threads, **({} if device is None else {"device": device}),
        }  # fmt: skip
        # A checkout may be on the path without being installed.
        versions = {
            "do-conv": do_conv.__version__,
            **{one: metadata.version(one) for one in ("numpy", *packages)},
        }
        self._place = {
            "versions": {"python": platform.python_version(), **versions}, "machine": machine,
        }  # fmt: skip
        self._claim(json.loads(json.dumps(settings)))
        kept = self._file.read_text(encoding="utf-8") if self._file.exists() else ""
        self.lines: list[dict[str, Any]] = [_parsed(line, self._file) for line in kept.splitlines()]

    def _claim(self, settings: Any) -> None:
        """Write the header, or hold the settings to the one that is there."""
        if self._header.exists():
            known = self._read_header()["settings"]
            if "door" in settings:
                known = {**known, "door": doors.of(known)}
            if known != settings:
                both = (known, settings)
                others = {
                    key for one in both for key in one if both[0].get(key) != both[1].get(key)
                }
                raise ValueError(
                    f"{self._header} is of a run with {_of(known, others)}, not "
                    f"{_of(settings, others)}: name another folder with --out"
                )
            return
        header = {**self._whose, "settings": settings, "places": []}
        _write(self._header, json.dumps(header, indent=1) + "\n")

    def _read_header(self) -> Any:
        return _parsed(self._header.read_text(encoding="utf-8"), self._header)

    def note(self, **more: Any) -> None:
        """Keep more in the header, such as what a run has found at its end."""
        header = self._read_header()
        _write(self._header, json.dumps({**header, **more}, indent=1) + "\n")

    def add(self, epoch: int, **found: Any) -> None:
        """Keep a line for an epoch that is finished here, with its measures and what was found."""
        places = self._read_header()["places"]
        if self._place not in places:
            self.note(places=[*places, self._place])
        self.keep([*self.lines, {**self._whose, "epoch": epoch, **found}])

    def keep(self, lines: list[dict[str, Any]]) -> None:
        """Keep these lines alone; without any the run begins anew, and is of no place yet."""
        if not lines and self._read_header()["places"]:
            self.note(places=[])
        _write(self._file, "".join(json.dumps(line) + "\n" for line in lines))
        self.lines = lines


def _parsed(text: str, source: Path) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{source} is no JSON ({error}): restore it, or name another folder with --out"
        ) from None


def _of(settings: Mapping[str, Any], names: set[str]) -> str:
    return ", ".join(f"{name} {settings.get(name)!r}" for name in sorted(names))


def _write(path: Path, text: str) -> None:
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


def processor() -> str:
    """Its name where the system tells it, its architecture elsewhere."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text(encoding="utf-8").splitlines() if told.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
