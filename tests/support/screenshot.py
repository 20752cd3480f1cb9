"""The picture of the README: `python tests/support/screenshot.py PNG`; see script/screenshot.

The example's own tests against real processes of its service, and one line's tests in the report.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import browser
import ordersrun

from pytest_kindcov.report import html
from pytest_kindcov.report.web import index

FILE, LINE, TOP = "internal/api/api.go", 41, 36
WIDTH, HEIGHT = 1100, 640


def main() -> None:
    """Make the picture."""
    target = Path(sys.argv[1])
    target.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name, browser.opened() as page:
        report = ordersrun.run(Path(name)).report()
        pages = Path(name, "html")
        pages.mkdir()
        first = html.write(pages, report)
        (file,) = (file for file in report.files if file.shown.endswith(FILE))
        page.look(width=WIDTH, height=HEIGHT)
        page.open((first.parent / index.PAGES / index.href(file)).as_uri())
        page.click(f"#L{LINE} > a")
        page.run(f"document.getElementById('L{TOP}').scrollIntoView()")
        page.call("Input.dispatchMouseEvent", type="mouseMoved", x=0, y=0)
        page.screenshot(target)
        assert page.complaints == []


if __name__ == "__main__":
    main()
