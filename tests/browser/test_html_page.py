"""The HTML report of the example's real run, in a real browser, from the file system."""

from __future__ import annotations

from typing import TYPE_CHECKING

import browser
import ordersrun
import pytest
from browser import texts

from pytest_kindcov.covdata import profile as profiles
from pytest_kindcov.covdata import store as stores
from pytest_kindcov.report import html, make, sources
from pytest_kindcov.report.web import index

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_kindcov.report.model import Report

API = "example.com/orders/internal/api/api.go"
# One test lists orders; several read them; all pass the recorder of the status.
KNOWN = (60, 68, 93)
KEPT = "[...document.querySelectorAll('.code li:not(.dim)')].map((e) => +e.id.slice(1))"
LISTS = "tests/e2e/test_orders.py::test_orders_are_listed_by_status"

pytestmark = pytest.mark.skipif(
    browser.command() is None, reason="no Chromium (Debian: apt-get install chromium)"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> ordersrun.OrdersRun:
    return ordersrun.run(tmp_path_factory.mktemp("orders"))


@pytest.fixture(scope="module")
def report(run: ordersrun.OrdersRun) -> Report:
    return run.report()


@pytest.fixture(scope="module")
def first(run: ordersrun.OrdersRun, report: Report) -> str:
    (run.directory / "html").mkdir()
    return html.write(run.directory / "html", report).as_uri()


@pytest.fixture(scope="module")
def api(first: str, report: Report) -> str:
    """The page of api.go."""
    (source,) = (file for file in report.files if file.name == API)
    return first.replace("index.html", f"{index.PAGES}/{index.href(source)}")


@pytest.fixture(scope="module")
def chromium() -> Iterator[browser.Page]:
    with browser.opened() as page:
        yield page


@pytest.fixture
def page(chromium: browser.Page) -> Iterator[browser.Page]:
    """A page with scripts, light and wide; nothing of it is refused, and no script fails."""
    chromium.scripts(allowed=True)
    chromium.look()
    chromium.complaints.clear()
    yield chromium
    assert chromium.complaints == []


@pytest.mark.parametrize("line", KNOWN)
def test_line_shows_exactly_the_tests_that_ran_it(
    page: browser.Page, api: str, run: ordersrun.OrdersRun, line: int
) -> None:
    page.open(api)
    page.click(f"#L{line} > a")
    truth = run.truth(API, line)
    assert set(texts(page, "#who li")) == truth
    assert texts(page, f"#L{line} > a") == [str(len(truth - {ordersrun.IDLE}))]


@pytest.mark.parametrize("line", KNOWN)
def test_it_shows_them_without_scripts(
    page: browser.Page, api: str, run: ordersrun.OrdersRun, line: int
) -> None:
    page.scripts(allowed=False)
    page.open(api)
    assert texts(page, ".sets section") == []
    page.click(f"#L{line} > a")
    assert set(texts(page, ".sets li")) == run.truth(API, line)
    page.click(".sets :target > a")
    assert texts(page, ".sets section") == []


def test_filter_by_test(page: browser.Page, api: str, run: ordersrun.OrdersRun) -> None:
    page.open(api)
    page.click("#L60 > a")
    page.click("#who li button")
    kept = page.run(KEPT)
    assert kept
    lines = range(1, len(texts(page, ".code li")) + 1)
    assert kept == [line for line in lines if LISTS in run.truth(API, line)]
    # Its URL leads back to it.
    url = page.run("location.href")
    page.open(url)
    assert page.run(KEPT) == kept
    assert page.run("document.querySelector('.here').id") == "L60"
    page.key("Escape")
    assert page.run("document.querySelectorAll('.dim').length") == 0


def test_typing_a_part_of_a_test_is_enough(page: browser.Page, api: str) -> None:
    page.open(api)
    page.key("/")
    for letter in "listed_by":
        page.key(letter)
    page.key("Enter")
    assert page.run("document.querySelector('input').value") == LISTS


def test_keys_lead_from_one_place_that_was_not_run_to_the_next(
    page: browser.Page, api: str
) -> None:
    page.open(api)
    missed = page.run(
        "[...document.querySelectorAll('.code .m')].filter("
        "(e) => !e.previousElementSibling.matches('.m')).map((e) => e.id)"
    )
    seen = []
    for _ in missed:
        page.key("n")
        seen.append(page.run("location.hash.slice(1)"))
        box = page.run("document.querySelector('.here').getBoundingClientRect().toJSON()")
        assert 0 < box["top"] < box["bottom"] < 900
    assert seen == missed
    page.key("p")
    assert page.run("location.hash.slice(1)") == missed[-2]


def test_jump_to_a_line(page: browser.Page, api: str) -> None:
    page.open(api)
    page.key("/")
    for letter in "120":
        page.key(letter)
    page.key("Enter")
    assert page.run("location.hash") == "#L120"
    box = page.run("document.querySelector('.here').getBoundingClientRect().toJSON()")
    assert 0 < box["top"] < box["bottom"] < 900
    # The keys are those of the page again, and the field is empty.
    assert page.run("document.querySelector('input').value") == ""
    page.key("p")
    assert page.run("+location.hash.slice(2)") < 120


def test_keys_lead_from_file_to_file(page: browser.Page, first: str, report: Report) -> None:
    """In the order of the first page, with the test that is chosen; without scripts by links."""
    page.open(first)
    listed = [text.rpartition("/")[2] for text in texts(page, ".file a")]
    page.key("/")
    for letter in listed[0]:
        page.key(letter)
    page.key("Enter")
    seen = []
    for _ in listed:
        page.settle()
        seen += texts(page, "h1 b")
        page.key("]")
    assert seen == listed
    page.run(f"(document.querySelector('input').value = {LISTS!r})")
    page.run("document.querySelector('input').dispatchEvent(new Event('change'))")
    page.key("[")
    page.settle()
    assert texts(page, "h1 b") == [listed[-2]]
    assert page.run("document.querySelector('input').value") == LISTS
    page.key("u")
    page.settle()
    assert LISTS in texts(page, ".chosen")[0]
    page.scripts(allowed=False)
    page.open(first)
    page.click(".file a")
    for name in listed:
        page.settle()
        assert texts(page, "h1 b") == [name]
        if name != listed[-1]:
            page.click("nav [rel=next]")


def test_keys_are_told(page: browser.Page, api: str) -> None:
    page.open(api)
    page.key("?")
    told = texts(page, "dialog kbd")
    assert {"n", "p", "/", "[", "]", "u", "?"} <= set(told)
    page.key("n")  # not while it is open
    assert page.run("location.hash") == ""
    page.key("Escape")
    assert texts(page, "dialog") == []


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_to_step_to(page: browser.Page, tmp_path: Path, count: int) -> None:
    """Buttons that would do nothing cannot be pressed."""
    text = f"mode: set\nexample.com/m/f.go:1.1,2.9 1 {count}\n"
    store = stores.Store(texts=[profiles.read(text.encode())])
    own = make.report(store, sources.repository(tmp_path), make.Run())
    assert own is not None
    (file,) = own.files
    page.open((html.write(tmp_path, own).parent / index.PAGES / index.href(file)).as_uri())
    steps = "[...document.querySelectorAll('.tools button')].slice(0, 2).map((b) => b.disabled)"
    assert page.run(steps) == [count == 1] * 2


def test_a_line_s_number_makes_its_url(page: browser.Page, api: str) -> None:
    page.open(api)
    page.click("#L93", across=0.02)
    assert page.run("location.hash") == "#L93"
    page.click("#L68", across=0.9)
    assert page.run("location.hash") == "#L93"


def test_link_to_a_line(page: browser.Page, api: str) -> None:
    for allowed in (True, False):
        page.scripts(allowed=allowed)
        page.open(f"{api}#L93")
        box = page.run("document.querySelector('#L93').getBoundingClientRect().toJSON()")
        head = page.run("document.querySelector('header').getBoundingClientRect().bottom")
        assert head < box["top"] < box["bottom"] < 900


@pytest.mark.parametrize("dark", [False, True])
def test_text_can_be_read(page: browser.Page, api: str, first: str, dark: bool) -> None:
    """WCAG's contrast of 4.5 for every colour of text on its ground; lines differ by a sign too."""
    page.look(dark=dark)
    for url in (first, api):
        page.open(url)
        worst = page.run(CONTRAST)
        assert worst[0] >= 4.5, worst
    signs = {
        mark: page.run(
            f"getComputedStyle(document.querySelector('.code .{mark}'), '::after').content"
        )
        for mark in "rm"
    }
    assert len(set(signs.values())) == 2


def test_first_page(page: browser.Page, first: str, report: Report) -> None:
    for allowed in (False, True):
        page.scripts(allowed=allowed)
        page.open(first)
        assert texts(page, ".figures strong") == [report.total.percent]
        rows = texts(page, "table.packages .package th")
        assert rows == [tally.name for tally in report.packages]
        assert len(texts(page, "table.packages .file th")) == len(report.files)
        assert LISTS in texts(page, "table.tests tbody th")


def test_sorting_finding_and_folding(page: browser.Page, first: str, report: Report) -> None:
    page.open(first)
    page.click("table.packages th:nth-child(3) button")  # not run
    missed = [int(text) for text in texts(page, "table.packages .package td:nth-child(3)")]
    assert missed == sorted(missed, reverse=True)
    page.click(".tools button:nth-of-type(2)")  # all files
    missed = [int(text) for text in texts(page, "table.packages .file td:nth-child(3)")]
    assert missed == sorted((file.tally.missed for file in report.files), reverse=True)
    page.key("/")
    for letter in "json":
        page.key(letter)
    assert [text.rpartition("/")[2] for text in texts(page, ".file a")] == ["json.go"]
    page.open(first)
    page.click(".package button")
    assert len(texts(page, ".file a")) < len(report.files)


def test_what_one_test_ran_from_the_first_page(
    page: browser.Page, first: str, report: Report
) -> None:
    page.open(first)
    page.run(
        "[...document.querySelectorAll('table.tests a')]"
        f".find((a) => a.textContent === {LISTS!r}).click()"
    )
    page.run("new Promise((done) => setTimeout(done, 100))")
    shown = texts(page, ".file a")
    assert 0 < len(shown) < len(report.files)
    page.click(".file a")
    page.run("new Promise((done) => setTimeout(done, 500))")
    assert page.run("document.querySelector('input').value") == LISTS
    assert page.run("document.querySelectorAll('.dim').length") > 0


@pytest.mark.parametrize("width", [320, 420, 800])
def test_nothing_is_wider_than_the_window(
    page: browser.Page, first: str, api: str, width: int
) -> None:
    page.look(width=width)
    for url in (first, api):
        page.open(url)
        assert page.run("document.documentElement.scrollWidth") <= width


# The lowest contrast of a text with its ground: figure, text, colours. Transparency is not used.
CONTRAST = """(() => {
  const numbers = (c) => c.match(/[\\d.]+/g).map(Number);
  const light = (c) => {
    const [r, g, b] = numbers(c).map((v) => v / 255)
      .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const c = getComputedStyle(e).backgroundColor;
      if ((numbers(c)[3] ?? 1) > 0) return c;
    }
    return "rgb(255, 255, 255)";
  };
  let worst = [99];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const e = node.parentElement;
    if (!node.data.trim() || !e.checkVisibility()) continue;
    const [a, b] = [getComputedStyle(e).color, ground(e)];
    const [x, y] = [light(a), light(b)].sort((p, q) => q - p);
    const contrast = (x + 0.05) / (y + 0.05);
    if (contrast < worst[0]) worst = [contrast, node.data, a, b];
  }
  return worst;
})()"""
