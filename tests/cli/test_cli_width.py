"""Every table fits a terminal of 80 columns, with no word broken."""

import io

import pytest
from rich.console import Console

from do_conv.demo import report as demo
from do_conv.demo.experiment import Outcome
from do_conv.parity import report as parity
from do_conv.parity.cases import CASES
from do_conv.parity.comparison import TRAINING, Result
from do_conv.parity.layer import QUANTITIES

VERSIONS = {
    "torch": "torch 2.13.0+cpu",
    "keras": "keras 3.15.1 on tensorflow",
    "gluon": "mxnet 1.9.1, numpy 1.26.4",
}


def printed(table):
    """The lines of a table in a terminal of 80 columns."""
    file = io.StringIO()
    Console(width=80, file=file).print(table)
    return file.getvalue().splitlines()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_parity(count):
    versions = dict(list(VERSIONS.items())[:count])
    long = max(CASES, key=len)
    results = [
        Result(name, "float32", long, quantity, 1.25e-7, 5e-6)
        for name in versions
        for quantity in QUANTITIES
    ]
    results += [Result(name, "float32", "second.bias", TRAINING, 4e-7, 1e-4) for name in versions]
    lines = printed(parity.table(results, versions, {}))
    assert max(map(len, lines)) <= 80
    words = [word for line in lines for word in line.split()]
    found = sum(word.startswith(long[:10]) for word in words)
    assert found == count * len(QUANTITIES)
    for part in long.split("-"):  # a name is broken between its words alone
        assert sum(part in word.split("-") for word in words) >= found
    assert words.count("compared") == words.count("offered") == count


@pytest.mark.parametrize("count", [1, 2, 3])
def test_demo(count):
    accuracy = {
        "plain": [[94.0, 99.56], [96.0, 98.89], [96.0, 99.33]],
        "layers": [[94.0, 94.9], [96.0, 98.44], [96.0, 99.78]],
        "optimizer": [[94.0, 94.9], [96.0, 98.67], [96.0, 99.78]],
    }
    outcomes = [
        Outcome(name, versions, accuracy, parameters=(18_347, 14_378),
                seconds=dict.fromkeys(["plain", "layers", "folded"], 1.0))
        for name, versions in list(VERSIONS.items())[:count]
    ]  # fmt: skip
    lines = printed(demo.table(outcomes, epochs=12))
    assert max(map(len, lines)) <= 80
    said = "\n".join(lines)
    for cell in ("98.89 to 99.56", "1.3 epochs", "18,347"):
        assert said.count(cell) == count
    for cell in ("2 of 3 seeds", "in 12 epochs"):  # of both arms with DO-Conv
        assert said.count(cell) == 2 * count


def test_what_the_demo_says_of_one_seed():
    accuracy = {"plain": [[96.0]], "layers": [[90.0]]}
    seconds = dict.fromkeys(["plain", "layers", "folded"], 1.0)
    outcome = Outcome("torch", VERSIONS["torch"], accuracy, seconds=seconds)
    said = " ".join(" ".join(printed(demo.table([outcome], epochs=1))).split())
    assert "accuracy, plain 96.00 % accuracy, layers 90.00 % " in said
    assert "to 95 %, plain 1 epoch to 95 %, layers 0 of 1 seed in 1 epoch " in said
    assert "changed by folding 0 " in said
