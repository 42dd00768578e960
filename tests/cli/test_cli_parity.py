"""`do-conv parity` as a person and a program meet it."""

import json

import pytest

from do_conv import MissingFrameworkError, frameworks
from do_conv.cli import main


def test_json_lists_every_quantity_of_a_case(capsys):
    assert main(["parity", "--framework", "torch", "--case", "group2", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["agrees"] is True
    assert {r["dtype"] for r in said["results"]} == {"float64", "float32"}
    assert {r["framework"] for r in said["results"]} == {"torch"}
    assert len(said["results"]) == 2 * 13
    assert all(r["error"] < 5e-6 for r in said["results"])


def test_a_framework_that_is_asked_for_twice_is_run_once(capsys):
    asked = ["--framework", "torch", "--case", "plain", "--json"]
    said = []
    for arguments in (asked, ["--framework", "torch", *asked]):
        assert main(["parity", *arguments]) == 0
        said.append(json.loads(capsys.readouterr().out))
    assert said[0] == said[1]


def test_a_case_that_is_not_offered_is_shown_with_its_reason(capsys):
    main(["parity", "--framework", "gluon", "--case", "same", "--case", "plain", "--json"])
    results = json.loads(capsys.readouterr().out)["results"]
    absent = [r for r in results if not r["offered"]]
    assert {(r["case"], r["reason"]) for r in absent} == {("same", "no padding 'same'")}


def test_the_table_names_the_worst_case_and_the_verdict(capsys):
    options = ["--framework", "torch", "--case", "plain", "--case", "he", "--dtype", "float64"]
    assert main(["parity", *options]) == 0
    said = capsys.readouterr().out
    assert "float64" in said
    assert "float32" not in said
    assert "2 compared" in said
    assert "0 not offered" in said
    assert "Every framework agrees with the core." in said


def test_exit_code_1_if_a_framework_does_not_agree(capsys, monkeypatch):
    adapter = frameworks.adapter("torch")
    right = adapter.composed_kernel
    monkeypatch.setattr(adapter, "composed_kernel", lambda layer: right(layer) + 1e-3)
    assert main(["parity", "--framework", "torch", "--case", "plain"]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "torch float64 plain: composed kernel is off by" in said


def hide(monkeypatch, *hidden):
    """Let frameworks be as if they were not installed."""
    load = frameworks.adapter

    def load_others(name):
        if name in hidden:
            raise MissingFrameworkError(name)
        return load(name)

    monkeypatch.setattr(frameworks, "adapter", load_others)


def test_a_framework_that_is_not_installed_is_shown_and_not_counted(capsys, monkeypatch):
    hide(monkeypatch, "gluon", "keras")
    assert main(["parity", "--case", "plain"]) == 0
    assert "left out: gluon" in " ".join(capsys.readouterr().out.split())


def test_no_framework_at_all_is_no_agreement(capsys, monkeypatch):
    hide(monkeypatch, *frameworks.BACKENDS)
    assert main(["parity", "--case", "plain"]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "torch is left out: torch" in said
    assert "Nothing was compared: there is no framework to compare." in said


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_case_that_no_framework_offers_is_no_agreement(capsys, options):
    assert main(["parity", "--framework", "gluon", "--case", "same", *options]) == 1
    said = capsys.readouterr().out
    assert "agrees with the core" not in said
    assert ('"agrees": false' in said) if options else ("these cases are not offered" in said)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ["--case", "plian"],
            "unknown case 'plian'; did you mean plain?",
        ),
        (
            ["--framework", "jax"],
            "unknown framework 'jax'; choose from torch, keras, gluon.",
        ),
        (
            ["--dtype", "float16"],
            "unknown dtype 'float16'; did you mean float64? choose from float64, float32.",
        ),
    ],
)
def test_exit_code_2_and_one_sentence_for_what_there_is_none_of(capsys, options, sentence):
    assert main(["parity", *options]) == 2
    said = capsys.readouterr()
    assert sentence in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""
