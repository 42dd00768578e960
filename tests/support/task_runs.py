"""Runs of the examples' tasks, and what they have left."""

import json

import pytest

from examples import tasks


def found(folder, arm):
    """The lines of the one run of an arm, without what differs between equal runs."""
    (file,) = folder.glob(f"*-{arm}-seed0.jsonl")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


def header(folder, arm):
    """The header of the one run of an arm."""
    (file,) = folder.glob(f"*-{arm}-seed0.json")
    return json.loads(file.read_text())


def interrupted(call):
    """Leave a run after its first epoch."""
    measure, calls = tasks.measure, []

    def interrupt(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return measure(*arguments)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tasks, "measure", interrupt)
        with pytest.raises(KeyboardInterrupt):
            call()
