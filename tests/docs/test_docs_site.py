"""The site's formulas, and the look at the built site that `make docs-check` takes."""

import re
from pathlib import Path

import pytest

from docs.tools import check

DOCS = Path(__file__).parents[2] / "docs"
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.DOTALL | re.MULTILINE)
FORMULA = re.compile(r"\$\$.*?\$\$|\$[^$\n]+\$", re.DOTALL)
PAGES = {
    "whole": "<p>W' costs <code>$5</code></p><div style='overflow-x: auto'><p class='wide'>x",
    "tex": "<p>the kernel \\(W'\\)",
    "dollars": "<p>the kernel $W'$",
    "wide": "<p class='wide'>x",
    "picture": "<img src='absent.png'>",
    "network": "<script src='https://example.com/a.js'></script>",
    "script": "<script>absent()</script>",
}
PROBLEMS = {
    "tex": "raw TeX: \\(W'",
    "dollars": "raw TeX: $W'",
    "wide": 'beyond the page\'s edge: <p class="wide"',
    "picture": "a picture that does not load",
    "network": "ERR_NAME_NOT_RESOLVED",
    "script": "absent is not defined",
}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    site = tmp_path_factory.mktemp("site")
    head = "<!doctype html><link rel='icon' href='data:,'><style>.wide {width: 1400px}</style>"
    for name, body in PAGES.items():
        (site / f"{name}.html").write_text(f"{head}<article>{body}")
    try:
        return list(check.problems(site, check.pages_of(site)))
    except check.AbsentError as error:
        pytest.skip(str(error))


def test_a_whole_page_has_no_problems(found):
    assert [problem for problem in found if problem.startswith("whole")] == []


@pytest.mark.parametrize("page", PROBLEMS)
def test_a_problem_is_found_at_every_width_light_and_dark(found, page):
    assert page in PAGES
    problems = [one for one in found if one.startswith(f"{page}.html") and PROBLEMS[page] in one]
    assert len(problems) == 4, found


def formulas():
    for page in sorted(DOCS.rglob("*.md")):
        for formula in FORMULA.findall(CODE.sub("", page.read_text("utf-8"))):
            yield page.relative_to(DOCS).as_posix(), formula


def test_a_page_writes_formulas_between_dollars():
    other = [page.name for page in DOCS.rglob("*.md")
             if re.search(r"\\[()\[\]]", CODE.sub("", page.read_text("utf-8")))]  # fmt: skip
    assert other == []
    assert len(list(formulas())) > 100


def test_markdown_on_github_leaves_a_formula_alone():
    """There `\\,` is a comma, and `_` or `*` between other signs than letters begins emphasis."""
    taken = re.compile(r"\\[!-/:-@\[\]^-`{|}~]|(?<![\w\s])[_*](?=\S)|^ *[-+*=>#]", re.MULTILINE)
    assert [one for one in formulas() if taken.search(one[1])] == []


def test_a_formula_is_drawn_on_the_line_in_the_colour_of_the_text():
    mathematics = pytest.importorskip("docs.tools.mathematics", reason="ziamath is not installed")
    page = '<p>a <span class="arithmatex">\\(x &lt; y\\)</span></p>'
    html = mathematics.on_page_content(page, page=None)
    assert re.fullmatch(r"<p>a <svg [^>]*>(<path [^>]*/>)+</svg></p>", html)
    assert 'aria-label="x &lt; y"' in html
    assert 'fill="currentColor"' in html
    bottom, top = (mathematics.drawing(tex, True) for tex in ("x_{y}", "x^{y}"))
    below = [float(re.search(r"vertical-align: (\S+)em", one)[1]) for one in (bottom, top)]
    assert below[0] < below[1] <= 0


def test_a_wrong_formula_stops_the_build():
    mathematics = pytest.importorskip("docs.tools.mathematics", reason="ziamath is not installed")
    page = type("Page", (), {"file": type("File", (), {"src_path": "a.md"})})
    with pytest.raises(mathematics.PluginError, match=r"a\.md: .*frac"):
        mathematics.on_page_content('<span class="arithmatex">\\(\\frac{1}\\)</span>', page=page)
