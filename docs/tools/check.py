"""Look at the built site in Chromium without a network: `make docs-check`.

Every page, at the widths of a laptop and of a phone, light and dark. A page has no TeX that was not
made a formula, nothing beyond its edge, no image, request or script that fails.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import itertools
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WIDTHS = (1366, 400)
SCHEMES = ("light", "dark")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
DRIVERS = ("chromedriver", "chromium.chromedriver")
OPTIONS = (
    "--headless=new", "--hide-scrollbars", "--no-sandbox", "--disable-dev-shm-usage",
    "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)  # fmt: skip
LOOK = (Path(__file__).parent / "look.js").read_text(encoding="utf-8")


class AbsentError(RuntimeError):
    """The browser, or what drives it, is not installed."""


def main(arguments: list[str] | None = None) -> int:
    """Print a line for each problem."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("site", type=Path, help="the folder that `mkdocs build` wrote")
    parser.add_argument("--pages", nargs="+", help="default: every page")
    parser.add_argument("--pictures", type=Path, help="keep a picture of every page in this folder")
    given = parser.parse_args(arguments)
    pages = given.pages or pages_of(given.site)
    try:
        found = list(problems(given.site, pages, given.pictures))
    except AbsentError as error:
        print(f"docs-check: {error}", file=sys.stderr)
        return 2
    print("\n".join(found or [f"{len(pages)} pages: no problems"]))
    return 1 if found else 0


def pages_of(site: Path) -> list[str]:
    """The addresses of a site's pages, from its root."""
    return sorted(path.relative_to(site).as_posix() for path in site.rglob("*.html"))


def problems(site: Path, pages: list[str], pictures: Path | None = None) -> Iterator[str]:
    """A sentence for each problem of each page.

    Raises:
        AbsentError: if Chromium, its driver or Selenium is not installed.
    """
    with _browser() as browser, _server(site) as address:
        for page, scheme, width in itertools.product(pages, SCHEMES, WIDTHS):
            _show(browser, address, page, scheme, width)
            for problem in [*browser.execute_async_script(LOOK), *_failures(browser)]:
                yield f"{page}, {width} pixels, {scheme}: {problem}"
            if pictures is not None:
                name = page.replace("/", "-").removesuffix(".html")
                _picture(browser, pictures / f"{name}-{width}-{scheme}.png")


@contextmanager
def _browser() -> Iterator[Any]:
    """Chromium, to which no name but this machine's own exists."""
    browser, driver = (next(filter(None, map(shutil.which, names)), None)
                       for names in (BROWSERS, DRIVERS))  # fmt: skip
    if browser is None or driver is None:
        raise AbsentError(
            "Chromium and its driver must be installed: apt-get install chromium-driver"
        )
    try:
        from selenium.webdriver import Chrome, ChromeOptions, ChromeService
    except ModuleNotFoundError as error:
        raise AbsentError(
            "Selenium must be installed: pip install -r docs/tools/requirements.lock"
        ) from error
    options = ChromeOptions()
    options.binary_location = browser
    for option in OPTIONS:
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = Chrome(options, ChromeService(driver))
    try:
        chrome.set_script_timeout(30)
        yield chrome
    finally:
        chrome.quit()


@contextmanager
def _server(site: Path) -> Iterator[str]:
    handler = functools.partial(_Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Say nothing: the browser reports what failed."""


def _show(browser: Any, address: str, page: str, scheme: str, width: int) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    # A reader who comes for the first time: the theme remembers what was chosen.
    origin = {"origin": address, "storageTypes": "local_storage"}
    browser.execute_cdp_cmd("Storage.clearDataForOrigin", origin)
    browser.get(f"{address}/{page}")


def _failures(browser: Any) -> Iterator[str]:
    """The errors and warnings of the console, to which failed requests belong."""
    for line in browser.get_log("browser"):
        if line["level"] in {"SEVERE", "WARNING"}:
            yield line["message"]


def _picture(browser: Any, path: Path) -> None:
    import base64

    path.parent.mkdir(parents=True, exist_ok=True)
    size = browser.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
    # Chromium draws no picture that is higher than this.
    clip = {**size, "height": min(size["height"], 16000), "scale": 1}
    found = browser.execute_cdp_cmd(
        "Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip}
    )
    path.write_bytes(base64.b64decode(found["data"]))


if __name__ == "__main__":
    sys.exit(main())
