"""Benchmarks: what is measured is what is shown. No time is asserted."""

import gc
import importlib
import json
import re
import sys
import time
import weakref
from unittest import mock

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import machine, page, report, turns
from benchmarks.frameworks import cuda
from benchmarks.frameworks.torch import step_ratio
from do_conv.core.spec import Spec

MEASURED = {"seconds": 0.0123, "middle_half": [0.0119, 0.125], "ratio": 0.5, "rounds": 7}


@pytest.fixture
def results(tmp_path):
    rows = [
        {"channels": 64, "found": {"plain": MEASURED, "floor": {"seconds": 0.002}}},
        {"channels": 8, "mode": "eager", "found": {"plain": {"MB": 1234.5, "operators": 3}}},
    ]
    content = {
        "date": "2026-01-02", "quick": True, "versions": {"torch": "2"}, "rows": rows,
        "machine": {"system": "Linux", "processor": "a processor", "threads": 2},
    }  # fmt: skip
    (tmp_path / "layer-keras-jax.json").write_text(json.dumps(content))
    return tmp_path


@pytest.mark.parametrize(
    ("quick", "warm_up", "rounds"), [(False, turns.WARM_UP, turns.FEWEST), (True, 1, 3)]
)
def test_contenders_take_turns(monkeypatch, quick, warm_up, rounds):
    called = []
    clock = iter(range(1000))  # a second passes between any two looks at it
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    contenders = {name: lambda name=name: called.append(name) for name in ("one", "other")}
    found = turns.take_turns(contenders, 0.0, quick=quick)
    turn = [set(called[first : first + 2]) for first in range(0, len(called), 2)]
    assert turn == [{"one", "other"}] * (warm_up + rounds)
    assert len(set(called[::2])) == 2  # nobody is always the first
    assert found["other"] == {"rounds": rounds, "seconds": 1, "middle_half": [1, 1], "ratio": 1.0}


def test_a_ratio_is_that_of_the_same_round():
    found = turns._summary([1.0, 2.0, 30.0], [1.0, 4.0, 10.0])
    assert found["ratio"] == 1.0
    assert found["seconds"] == 2.0


@pytest.mark.parametrize(
    ("given", "measured"),
    [
        (["seeds", "--quick"], [("seeds", "torch")]),
        (["memory", "--quick"], [("memory", "torch")]),
        (["layer", "--quick", "--frameworks", "keras-jax"], [("layer", "keras-jax")]),
        (["memory", "layer", "--frameworks", "torch"], [("memory", "torch"), ("layer", "torch")]),
    ],
)
def test_what_is_named_is_measured(given, measured, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(command, "_measure", lambda name, kind, *_: asked.append((name, kind)))
    monkeypatch.setattr(command, "_show", lambda path: None)
    monkeypatch.setattr(sys, "argv", ["benchmarks", *given, "--out", str(tmp_path)])
    assert command.main() == 0
    assert asked == measured


def test_exception_a_benchmark_of_other_frameworks(monkeypatch, tmp_path, capsys):
    given = ["layer", "memory", "--frameworks", "gluon", "--out", str(tmp_path / "results")]
    monkeypatch.setattr(sys, "argv", ["benchmarks", *given])
    with pytest.raises(SystemExit, match="2"):
        command.main()
    assert "memory is measured with torch\n" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_a_table_has_every_size_and_contender(results):
    table = report.table(results / "layer-keras-jax.json")
    assert table.command == "python -m benchmarks layer --frameworks keras-jax --quick"
    assert table.about == "2026-01-02, a processor, 2 threads; torch 2"
    assert table.heads == ["channels", "mode", "plain", "floor"]
    assert table.lines == [
        ["64", "", "12.3 (11.9 to 125), 0.50", "2"],
        ["8", "eager", "1,234 MB, 3 operators", ""],
    ]


def test_the_page_has_what_was_measured(results, tmp_path):
    written = tmp_path / "speed.md"
    assert page.main(["--results", str(results), "--page", str(written)]) == 0
    text = written.read_text()
    (block,) = re.findall(r"<details markdown>\n(.*?)</details>", text, re.DOTALL)
    assert block.startswith("<summary>Keras on JAX</summary>\n\n**One layer.** ")
    assert "\n```text\npython -m benchmarks layer --frameworks keras-jax --quick\n```\n" in block
    assert "\n| channels | plain | floor |\n| --- | --- | --- |\n| 64 | 12.3 (11.9" in block
    assert "\n*eager*\n\n| channels | plain |\n| --- | --- |\n| 8 | 1,234 MB" in block
    assert "## Whole networks" not in text


def test_the_summary_has_the_training_steps_of_the_usual_mode(results, tmp_path):
    about = {"network": "ResNet-18", "size": 32, "batch": 4}
    ratios = {"plain": 1.0, "authors": 3.0, "DO-Conv": 1.25, "by estimate": 1.5}
    found = {name: {**MEASURED, "ratio": ratio} for name, ratio in ratios.items()}
    dearer = {**found, "DO-Conv": {**MEASURED, "ratio": 1.75}, "optimizer": MEASURED}
    rows = [
        {"step": "training", "mode": "hybridized", **about, "found": found},
        {"step": "training", "mode": "hybridized", **about, "batch": 2, "found": dearer},
        {"step": "evaluation", "mode": "hybridized", **about, "found": dearer},
        {"step": "training", "mode": "imperative", **about, "found": dearer},
    ]
    content = json.loads((results / "layer-keras-jax.json").read_text()) | {"rows": rows}
    (results / "networks-gluon.json").write_text(json.dumps(content))
    page.main(["--results", str(results), "--page", str(tmp_path / "speed.md")])
    text = " ".join((tmp_path / "speed.md").read_text().split())
    assert "with DO-Conv layers takes 1.25 to 1.75 times as long" in text
    assert "the median of these 2 is 1.50" in text
    assert "| ResNet-18 | 32 x 32 | 4 | 12 | x 1.25 | | x 3.00 |" in text
    assert "| ResNet-18 | 32 x 32 | 2 | 12 | x 1.75 | x 0.50 | x 3.00 |" in text
    chart = (tmp_path / page.NETWORKS).read_text()
    assert "currentColor" in chart
    assert "DO-Conv optimizer" in chart  # a comment beside its drawn letters


def test_the_kept_page_is_that_of_the_kept_results():
    assert page.PAGE.read_text(encoding="utf-8") == page.page(report.RESULTS)


def test_the_floor_is_what_takes_longer():
    spec = Spec(4, 8, (3, 3))
    moved = 4 * 32 * (3 * 9 + 2 * 9)  # W is read twice, its gradient written; W' likewise
    assert machine.Machine(2.0, 1e9).composing(spec) == moved / 2
    assert machine.Machine(1e9, 4.0).composing(spec) == 6 * 32 * 81 / 4


def test_a_contender_is_timed_as_its_framework_says():
    found = turns.take_turns({"one": lambda: 2.0, "other": lambda: 3.0}, 0.0, lambda run: run())
    assert (found["one"]["seconds"], found["other"]["ratio"]) == (2.0, 1.5)


def test_a_devices_steps_are_those_of_the_cpu(monkeypatch):
    monkeypatch.setattr(cuda, "DEVICE", "cpu")
    made = []
    monkeypatch.setattr(cuda.on_cpu, "step_of", lambda run, leaves, grad: made.append(grad.dtype))
    assert list(cuda.composing(Spec(4, 4, (3, 3)), "eager bfloat16")) == ["authors", "DO-Conv"]
    assert made == [torch.bfloat16] * 2
    assert torch.get_default_dtype() == torch.float32


def test_a_captured_step_keeps_its_arrays(monkeypatch):
    # A graph has addresses; what is there must not be given to others.
    for name in ("Stream", "stream", "current_stream", "CUDAGraph", "graph"):
        monkeypatch.setattr(torch.cuda, name, mock.MagicMock())
    array = torch.zeros(1)
    kept = weakref.ref(array)
    replay = cuda._captured(array.zero_)
    del array
    gc.collect()
    assert kept() is not None
    replay()
    torch.cuda.CUDAGraph.return_value.replay.assert_called_once_with()


def test_the_estimate_is_near_what_was_measured():
    kept = json.loads((report.RESULTS / "networks-torch.json").read_text("utf-8"))["rows"]
    trained = [one for one in kept if (one["step"], one["mode"]) == ("training", "eager")]
    assert trained
    for one in trained:
        found, expected = one["found"], step_ratio(one["network"], one["size"], one["batch"])
        assert expected == pytest.approx(found["DO-Conv"]["ratio"], rel=0.15), one
        assert expected == pytest.approx(found["estimate"]["of plain"], rel=1e-9), one


@pytest.mark.parametrize(("name", "mode"), [
    ("torch", "eager"), ("keras", "graph"), ("gluon", "imperative"),
])  # fmt: skip
def test_the_authors_formula_is_what_its_column_measures(name, mode, monkeypatch):
    framework = importlib.import_module(f"benchmarks.frameworks.{name}")
    kernel, called = framework.authors_kernel, []
    monkeypatch.setattr(
        framework, "authors_kernel", lambda *given: called.append(1) or kernel(*given)
    )
    steps = framework.training(Spec(2, 2, (3, 3)), 4, 1, mode)
    steps["DO-Conv"]()
    assert not called
    steps["authors"]()
    assert called
