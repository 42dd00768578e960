"""Runs of the examples, and what they have left."""

import json

import pytest

from examples import states
from examples.records import Record


def found(folder, arm):
    """The lines of the one run of an arm, without what differs between equal runs."""
    (lines,) = all_found(folder, f"*-{arm}-seed0").values()
    return lines


def all_found(folder, names="*"):
    """The same of all runs, by the names of their files."""
    return {file.name: [{name: value for name, value in json.loads(line).items()
                         if name != "seconds"} for line in file.read_text().splitlines()]
            for file in folder.glob(f"{names}.jsonl")}  # fmt: skip


def header(folder, arm):
    """The header of the one run of an arm."""
    (file,) = folder.glob(f"*-{arm}-seed0.json")
    return json.loads(file.read_text())


def left(call, owner, name, before):
    """Leave a run before a function of an owner is called for the so-manieth time."""
    function, calls = getattr(owner, name), []

    def interrupt(*arguments, **options):
        calls.append(1)
        if len(calls) == before:
            raise KeyboardInterrupt
        return function(*arguments, **options)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(owner, name, interrupt)
        with pytest.raises(KeyboardInterrupt):
            call()


@pytest.fixture
def taken_up(run):
    """Hold runs of two epochs that were left and taken up to the same runs without a break.

    They are what the module's `run` does with these options, in the folder that it returns.
    """

    def hold(*options):
        expected = all_found(run(*options, out="at once"))
        assert expected
        assert {len(lines) for lines in expected.values()} == {2}
        # With lines of the first epoch and no state, from which the run begins anew.
        left(lambda: run(*options), states, "keep", 1)
        # In the second epoch, of which nothing is kept.
        left(lambda: run(*options), Record, "add", 1 + len(expected))
        # With lines of the second epoch and the state of the first one.
        left(lambda: run(*options), states, "keep", 1)
        for _ in ("taken up", "ended"):
            results = run(*options)
            assert all_found(results) == expected
            assert not list(results.glob("*.pt"))

    return hold
