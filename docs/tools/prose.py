"""Hold the project's prose to the rules of the house: `python docs/tools/prose.py [FILE ...]`.

It reads Markdown outside of code, and the docstrings and messages of Python files. Each rule is a
pattern of a phrase that readers stumble over, and what to write in its place.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
# The first page of the site is made from the README.
PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "examples/**/*.md", "docs/**/*.md")
MODULES = ("do_conv/**/*.py", "examples/notebooks/*.py")

RULES = {
    # A sentence, not a heading or a question.
    r"(?:\A|(?<=[.:;!] )|(?<=\n\n)|(?<=\| ))What (?!to\b)[a-z][^.?|#]*(?:[.|:;]|\Z)": (
        "name the subject: not 'What is stored is D'', but 'The layer stores D''"
    ),
    r"\bthere (?:is|are) none\b": "say what is missing: 'unknown name', 'without a bias'",
    r"\bcould not be asked so\b": "usage error",
    r"\bno trace of us\b": "no dependency on do_conv",
    r"\bmore to work with\b": "extra parameters",
    r"\b(?:does|do) not depend on (?:the|a) (?:batch|image)": "the overhead is fixed per step",
    r"\bkernels? (?:has|have|of|with) one position\b": "1 x 1 kernel",
    r"\bmiddle half of\b": "interquartile range",
    r"\b(?:of|as one of) ours\b": "DO-Conv layer, do_conv's, or the project's",
    r"\bof theirs\b": "the authors', or whose it is",
    r"\bof one's own\b": "your own, or custom",
    r"\bnothing of (?:ours|us)\b": "no part of do_conv",
    r"\bthereof\b|\btherein\b|\bwhereof\b": "repeat the noun",
    r"\bof which \w+ says\b": "give the error after a colon",
    r"\b(?:little|much|few) beside\b": "negligible, or noticeable",
    r"\bin words of (?:its|their) own\b": "a clear error",
    r"\bwhat (?:it|that) takes\b": "its cost",
    r"\bwithout us\b|\bwith or without us\b": "without do_conv",
}
FENCE = re.compile(r"^```.*?^```$|^~~~.*?^~~~$|<!--.*?-->", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"``.*?``|`[^`]*`")


def blank(match: re.Match[str]) -> str:
    """A text's lines without their words, so that those after it keep their numbers."""
    return re.sub(r"[^\n]", " ", match[0])


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """The prose of a file, each piece with the line it starts on."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        yield 1, CODE.sub("code", FENCE.sub(blank, text))
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, CODE.sub("code", node.value)
    for match in re.finditer(r"^# %% \[markdown\]\n((?:#.*\n)+)", text, re.MULTILINE):
        yield text.count("\n", 0, match.start(1)) + 1, re.sub("^# ?", "", match[1], flags=re.M)


def findings(text: str) -> Iterator[tuple[int, str, str]]:
    """What breaks a rule in a text: the number of lines before it, the phrase, and the advice."""
    # A phrase may go on in the next line; a paragraph ends at an empty one.
    joined = re.sub(r"(?<!\n)\n[ \t]*(?![\n|#*-])", " ", text)
    ends: dict[str, int] = {}
    for pattern, advice in RULES.items():
        for match in re.finditer(pattern, joined):
            words = " ".join(match[0].split())
            spaced = re.compile(r"\s+".join(map(re.escape, match[0].split())))
            if found := spaced.search(text, ends.get(words, 0)):
                ends[words] = found.end()
                yield text.count("\n", 0, found.start()), words, advice


def files() -> list[Path]:
    """The files whose prose is checked."""
    found = {path for pattern in (*PAGES, *MODULES) for path in ROOT.glob(pattern)}
    return sorted(found - {ROOT / "docs/index.md"})


def main(arguments: list[str]) -> int:
    """Print every finding; 1 if there is one."""
    count = 0
    for path in map(Path, arguments) if arguments else files():
        for first, text in texts(path):
            for line, words, advice in findings(text):
                shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
                print(f"{shown}:{first + line}: {words!r}: {advice}")
                count += 1
    return min(count, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
