"""The linter of prose finds the phrases that its rules are about, and the project has none."""

import runpy
from pathlib import Path

import pytest

prose = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "tools" / "prose.py"))

# A phrase that each rule finds, and what to write in its place.
PHRASES = [
    ("What is stored is D'.", "The layer stores D'."),
    ("Fine. What that does is unknown.", "Fine. Its effect is unknown."),
    ("a name there is none of", "unknown name"),
    ("it could not be asked so", "usage or environment error"),
    ("no trace of us is left", "no dependency on do_conv"),
    ("Training has more to work with.", "Training gains extra parameters."),
    ("The cost does not depend on the batch.", "The overhead is fixed per step."),
    ("its kernel has one position", "1 x 1 kernel: nothing to over-parameterize"),
    ("the middle half of the rounds", "the interquartile range"),
    ("a layer of ours", "a DO-Conv layer"),
    ("a layer of theirs", "the authors' layer"),
    ("a network of one's own", "your own network"),
    ("The file needs nothing of ours.", "The file needs no part of do_conv."),
    ("the norm thereof", "its norm"),
    ("a file of which Python says: no", "a file that fails with: no"),
    ("It is little beside large maps.", "It is negligible for large maps."),
    ("an error in words of its own", "a clear error"),
    ("what it takes is fixed", "its cost is fixed"),
    ("This is so without us.", "Plain layers behave the same."),
]


@pytest.mark.parametrize(("phrase", "better"), PHRASES)
def test_a_phrase_is_found_and_its_replacement_is_not(phrase, better):
    assert list(prose["findings"](phrase))
    assert not list(prose["findings"](better))


def test_every_rule_has_a_phrase():
    found = {advice for phrase, _ in PHRASES for _, _, advice in prose["findings"](phrase)}
    assert found == set(prose["RULES"].values())


@pytest.mark.parametrize("text", [
    "## What it costs\n\nNothing.", "What does it cost?\n", "Say what it is.", "- What to expect"
])  # fmt: skip
def test_headings_and_questions_may_begin_with_what(text):
    assert not list(prose["findings"](text))


def test_the_line_of_a_phrase_and_code_are_known(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text(
        "# Title\n\n```python\nours = 'a layer of ours'\n```\n\n`of ours` and a layer\nof ours.\n"
    )
    assert prose["main"]([str(page)]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{page}:8: 'of ours': ")


def test_docstrings_and_messages_are_read(tmp_path, capsys):
    module = tmp_path / "module.py"
    module.write_text(
        '"""A module."""\n\n\ndef one(x):\n    raise ValueError(f"{x} is no layer of ours")\n'
    )
    assert prose["main"]([str(module)]) == 1
    assert capsys.readouterr().out.startswith(f"{module}:5: 'of ours': ")


def test_the_prose_of_the_project(capsys):
    found = prose["main"]([])
    assert found == 0, capsys.readouterr().out
