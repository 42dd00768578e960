"""Draw the pictures of the documentation, and write what comes from results: `make pictures`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from do_conv.files import replacing
from pictures import compositions, costs, layer, pages
from pictures.drawing import Drawing

ROOT = Path(__file__).parents[1]
PICTURES: dict[str, Callable[[], Drawing]] = {
    "layer": layer.picture,
    "convolution": compositions.convolution,
    "depthwise-convolution": compositions.depthwise_convolution,
    "do-conv": compositions.do_conv,
    "do-depthwise-conv": compositions.do_depthwise_conv,
    "costs": costs.picture,
}
PAGES = ("README.md", "docs/choosing.md", "docs/optimizer.md")


def files() -> dict[str, str]:
    """What is written, by its path in the project."""
    found = {f"docs/images/{name}.svg": str(picture()) for name, picture in PICTURES.items()}
    for page in PAGES:
        found[page] = pages.filled((ROOT / page).read_text(encoding="utf-8"))
    found["docs/index.md"] = pages.first_page(found["README.md"])
    return found


def main() -> int:
    """Write all of it."""
    for path, text in files().items():
        with replacing(ROOT / path) as beside:
            beside.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
