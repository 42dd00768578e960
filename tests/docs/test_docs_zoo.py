"""The page of the zoos."""

from pathlib import Path

import zoo_page

PAGE = Path(__file__).parents[2] / "docs" / "zoo.md"


def test_the_kept_page_counts_its_lines():
    about = next(line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("torch "))
    assert zoo_page.page(zoo_page.kept(PAGE), about) == PAGE.read_text("utf-8")


def test_a_page_has_counts_and_the_largest_differences_first(tmp_path):
    rows = [
        ("timm", "a", 2, 1, 0.0, 2.5e-7),
        ("timm", "b", 3, 0, 1e-8, 0.0),
        ("keras", "c", 1, 1, 0.0, 0.0),
    ]
    cells = [zoo_page.line(dict(zip(zoo_page.COLUMNS, row, strict=True))) for row in rows]
    lines = {line[:2]: line for line in cells}
    path = tmp_path / "zoo.md"
    path.write_text(zoo_page.page(lines, "versions"))
    summary, _, table = path.read_text().partition("## Every network")
    assert "| keras | 1 | 1 | 1 | 0 | 0 |\n| timm | 2 | 5 | 1 | 1.0e-08 | 2.5e-07 |\n" in summary
    assert "| all | 3 | 6 | 2 | 1.0e-08 | 2.5e-07 |\n" in summary
    assert "| timm | b | 3 | 0 | 1.0e-08 | 0 |\n" in table
    assert zoo_page.kept(path) == lines
