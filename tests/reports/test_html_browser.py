"""The HTML report as a reader sees it: in Chromium, light, dark, narrow, printed, and without a network."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browsing import Opened, chromium, opened
from html_cases import ALL, EVIL, failing, make_record
from made_up import slower
from workspaces import give_up

from pytest_staging.reports.html import missing_packages, render_html

RUNS = 10
WIDTHS = {"wide": 1280, "narrow": 380}
CONTRAST = """() => {
  const light = (color) => {
    const part = color.match(/[\\d.]+/g).slice(0, 3).map((one) => one / 255)
      .map((one) => one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
    return 0.2126 * part[0] + 0.7152 * part[1] + 0.0722 * part[2];
  };
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const color = getComputedStyle(one).backgroundColor;
      if (!/, 0\\)|transparent|color\\(/.test(color)) return color;
    }
    return "rgb(255, 255, 255)";
  };
  const worst = {ratio: 99};
  for (const one of document.querySelectorAll("p, h1, h2, h3, dd, dt, summary, .chip, th, td, small, nav a")) {
    if (!one.checkVisibility() || !one.textContent.trim()) continue;
    const pair = [light(getComputedStyle(one).color), light(behind(one))].sort((a, b) => b - a);
    const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
    if (ratio < worst.ratio) Object.assign(worst, {ratio, text: one.textContent.trim().slice(0, 40)});
  }
  return worst;
}"""


@pytest.fixture(scope="module")
def record() -> Any:
    """Two candidates, one of them slower; one cell failed with a log that wants to be a script."""
    if missing := missing_packages():
        give_up(f"{' and '.join(missing)} not installed: pip install 'pytest-staging[report]'")
    return make_record(
        RUNS, candidates=("fast", "slow"), change=slower("slow"), alter=failing(3, "fast", tail=EVIL), benchmark=ALL
    )


@pytest.fixture(scope="module")
def report(record: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render_html(record), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One Chromium for all."""
    with chromium() as started:
        yield started


@pytest.fixture
def seen(browser: Any, report: Path) -> Iterator[Opened]:
    """The report on a wide light screen."""
    with opened(browser, report) as found:
        yield found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", WIDTHS)
def test_it_asks_for_nothing_and_complains_of_nothing(browser: Any, report: Path, scheme: str, screen: str) -> None:
    """XP-04: offline, light and dark, wide and narrow: one request, which is the file; an empty console; no script of a
    log ran; the verdict stands on the first screen; the page does not scroll sideways; every text can be read."""
    with opened(browser, report, width=WIDTHS[screen], height=800, scheme=scheme) as found:
        page = found.page
        box = page.locator("h1").bounding_box()
        assert page.locator("h1").inner_text() == "✕ Regression"
        assert 0 < box["y"] < 400
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        worst = page.evaluate(CONTRAST)
        assert worst["ratio"] >= 4.5, worst
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", paper)[:3])) > 384) == (scheme == "light")
        assert page.title().startswith("Regression: fast, slow against baseline")
        assert found.requests == [report.as_uri()]
        assert found.complaints == []


@pytest.mark.parametrize("screen", WIDTHS)
def test_everything_is_drawn(browser: Any, report: Path, record: Any, screen: str) -> None:
    """XP-04: as many intervals as rows that have one, as many points as values, in the plots that are visible."""
    with opened(browser, report, width=WIDTHS[screen]) as found:
        seen = "(marks) => marks.filter((mark) => mark.getClientRects().length && mark.checkVisibility()).length"
        rows = [row for row in record.aggregate["rows"] if row["applicable"] and row["n"]]
        assert found.page.locator(f".forest .{screen} [data-tip]").evaluate_all(seen) == len(rows)
        bands = found.page.locator(f".forest .{screen} [fill='var(--band)']").count()
        assert bands == sum(row["applicable"] for row in record.aggregate["rows"])
        blocks = sum(row["n"] for row in record.aggregate["rows"] if row["applicable"])
        assert found.page.locator("#runs .plot line[stroke='var(--join)']").count() == blocks
        values = [
            value
            for one in record.summaries
            if one.passed
            for name, value in one.metrics.items()
            if value is not None and name not in one.inapplicable
        ]
        failed = sum(not one.passed for one in record.summaries)
        shown = found.page.locator("#runs .plot [data-tip]").evaluate_all(seen)
        crossed = failed * 4 + 1  # each failed cell in each metric of its mode, gc_pause only in jvm
        assert shown == len(values) + crossed
        other = "narrow" if screen == "wide" else "wide"
        assert found.page.locator(f".forest .{other} [data-tip]").evaluate_all(seen) == 0


def test_a_tooltip_follows_the_mouse(seen: Opened) -> None:
    """XP-04: over a point stands what it is; away from it, nothing."""
    page = seen.page
    mark = page.locator("#runs .plot [data-tip]").first
    mark.scroll_into_view_if_needed()
    box = mark.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tip = page.locator("#tip")
    tip.wait_for(state="visible")
    assert re.search(r"run 1, jvm: \w+\n[\d.]+ ms", tip.inner_text())
    place = tip.bounding_box()
    assert place["x"] >= 0
    assert place["x"] + place["width"] <= 1280
    page.mouse.move(2, 400)
    tip.wait_for(state="hidden")


def test_tooltips_by_keyboard(seen: Opened) -> None:
    """XP-04: a plot takes the focus by Tab, arrows go from mark to mark, what is shown is spoken, Escape closes it."""
    page = seen.page
    page.locator("#comparison details summary").first.focus()
    page.keyboard.press("Shift+Tab")
    tip = page.locator("#tip")
    tip.wait_for(state="visible")
    page.mouse.wheel(0, 40)  # as the page does when it brings the plot into view
    page.wait_for_function("scrollY > 0")
    first = tip.inner_text()
    assert "\n" in first, "it is still shown"
    assert "tolerance" in first
    page.keyboard.press("ArrowRight")
    second = tip.inner_text()
    assert second != first
    assert page.locator("#spoken").inner_text() == ", ".join(second.split("\n"))
    assert page.evaluate("document.activeElement.className") == "plot wide"
    page.keyboard.press("Home")
    assert tip.inner_text() == first
    page.keyboard.press("End")
    assert tip.inner_text() != first
    page.keyboard.press("Escape")
    tip.wait_for(state="hidden")


def test_the_colours_can_be_chosen_and_are_kept(seen: Opened) -> None:
    """XP-04: a button goes through the system's colours, dark and light, says which, and outlives a reload."""
    page = seen.page
    button = page.locator("#theme")
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(paper)
    assert button.get_attribute("aria-label") == "Colours: as the system has it"
    button.press("Enter")
    assert button.get_attribute("aria-label") == "Colours: dark"
    dark = page.evaluate(paper)
    assert dark != light
    page.reload()
    assert page.evaluate(paper) == dark
    button.click()
    assert button.get_attribute("aria-label") == "Colours: light"
    assert page.evaluate(paper) == light


def test_names_and_heads_for_who_does_not_see(seen: Opened) -> None:
    """XP-04: every plot is an image with a text that tells it from the others; every table has heads; one main, one
    title, headings in order; every link in the page leads somewhere."""
    page = seen.page
    names = page.locator(".plot").evaluate_all(
        "(plots) => plots.filter((one) => one.checkVisibility()).map((one) => one.getAttribute('aria-label'))"
    )
    assert page.get_by_role("img").count() == len(names)
    assert len(set(names)) == len(names)
    assert all(len(name) > 40 for name in names)
    bare = "(tables) => tables.filter((one) => !one.querySelector('thead th[scope=col]')).length"
    assert page.locator("table").evaluate_all(bare) == 0
    assert page.get_by_role("main").count() == 1
    assert page.locator("h1").count() == 1
    levels = page.locator("h1, h2, h3").evaluate_all("(all) => all.map((one) => Number(one.tagName[1]))")
    assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(levels))
    dangling = "(all) => all.map((one) => one.getAttribute('href')).filter((one) => !document.querySelector(one))"
    assert page.locator("a").evaluate_all(dangling) == []
    ids = page.locator("[id]").evaluate_all("(all) => all.map((one) => one.id)")
    assert len(ids) == len(set(ids))


def test_it_can_be_printed(browser: Any, report: Path) -> None:
    """XP-04: on paper it is light, without navigation, with the wide plots, and nothing is cut off at the side."""
    with opened(browser, report, width=718, height=1000, scheme="dark") as found:
        page = found.page
        page.emulate_media(media="print")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert page.evaluate(CONTRAST)["ratio"] >= 4.5
        assert not page.locator(".bar").is_visible()
        assert page.locator(".plot.wide").first.is_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_log_tails_and_numbers_open(seen: Opened) -> None:
    """XP-04: the end of a failed cell's log is there to read as it was; the numbers of a plot open below it."""
    page = seen.page
    assert page.locator("#missing .failed pre").first.inner_text() == EVIL
    details = page.locator("#runs figure details").first
    details.locator("summary").click()
    assert details.locator("tbody tr").count() == RUNS
    assert "failed" in details.locator("tbody tr").nth(2).inner_text()


def test_the_longest_names_do_not_widen_the_page(browser: Any, tmp_path: Path) -> None:
    """XP-04: slugs of 100 letters, and a reason without a space, wrap at 380 px."""
    slugs = ("a" * 100, "b" * 100)
    record = make_record(4, candidates=slugs, alter=failing(2, slugs[0], reason="x" * 400, tail="y" * 400))
    path = tmp_path / "long.html"
    path.write_text(render_html(record), encoding="utf-8")
    for width in (380, 1280):
        with opened(browser, path, width=width) as found:
            found.page.locator("details").evaluate_all("(all) => all.forEach((one) => { one.open = true; })")
            assert found.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_ten_thousand_cells_open(browser: Any, tmp_path: Path) -> None:
    """XP-04: a report of 10,000 cells opens, draws its groups and scrolls to its end."""
    record = make_record(2500, alter=lambda one: replace(one, phases={}))
    path = tmp_path / "large.html"
    path.write_text(render_html(record), encoding="utf-8")
    with opened(browser, path) as found:
        # A line of 74 groups for two versions, of two metrics in two modes.
        assert found.page.locator("#runs .plot [data-tip]").count() == 74 * 2 * 2 * 2
        found.page.locator("#again").scroll_into_view_if_needed()
        assert found.complaints == []
