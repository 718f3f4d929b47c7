"""The history of metrics: what is comparable, what is marked, what is flagged; as data, table, page and command."""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browsing import chromium, opened
from html_cases import EVIL, make_record

from pytest_staging.campaign.history import build_history
from pytest_staging.cli import main
from pytest_staging.model.history import History, Promotion
from pytest_staging.model.record import CampaignRecord
from pytest_staging.reports.html import missing_packages, render_history
from pytest_staging.reports.trends import describe_boundaries, render_trends

DATA = Path(__file__).parent / "data" / "v1"
STEP_AT, OTHER_FROM = 8, 16
PROMOTED = Promotion(
    slug="cand-07", at="2026-01-08T18:00:00Z", campaign_id="campaign-07", replaced="baseline", after=STEP_AT
)


@pytest.fixture(autouse=True)
def extra() -> None:
    """Every test here needs what the extra brings."""
    from workspaces import give_up

    if missing := missing_packages("ruptures", "jinja2", "altair", "vl_convert"):
        give_up(f"{' and '.join(missing)} not installed: pip install 'pytest-staging[report]'")


def campaigns(count: int = 20) -> list[CampaignRecord]:
    """p95 falls by a fifth from the ninth on; from the seventeenth on another benchmark measures twice of it."""
    drawn = random.Random(4)

    def record(number: int) -> CampaignRecord:
        level = (1.0 if number < STEP_AT else 0.8) * (2.0 if number >= OTHER_FROM else 1.0) * drawn.uniform(0.98, 1.02)

        def change(cell: Any, metrics: dict[str, Any]) -> None:
            metrics["p95"] *= level
            metrics["heap_peak"] *= drawn.uniform(0.98, 1.02)

        day = f"2026-01-{number + 1:02d}T12:00:00Z"
        sha = ("1" if number >= OTHER_FROM else "0") * 64
        return make_record(4, change=change, candidates=(f"cand-{number:02d}",), campaign_id=f"campaign-{number:02d}",
                           created_at=day, benchmark_sha256=sha)  # fmt: skip

    return [record(number) for number in range(count)]


@pytest.fixture(scope="module")
def past() -> History:
    """Twenty campaigns, a promotion, another benchmark."""
    from pytest_staging.stats.changes import find_changes

    return build_history(campaigns(), [PROMOTED], [("broken", EVIL)], find_changes)


def trend_of(history: History, metric: str, mode: str = "jvm") -> Any:
    return next(one for one in history.trends if (one.metric, one.platform_mode) == (metric, mode))


def test_a_step_is_flagged_with_the_promotion_that_made_it(past: History) -> None:
    """XP-04: the step stands at its campaign, better, after the promotion; no other is flagged."""
    (change,) = trend_of(past, "p95").changes
    assert (change.kind, change.start, change.end) == ("step", STEP_AT - 1, STEP_AT)
    assert (change.worse, change.promoted) == (False, "cand-07")
    assert change.amount == pytest.approx(0.8, rel=0.05)
    assert not trend_of(past, "heap_peak").changes


def test_only_campaigns_by_one_measure_are_compared(past: History) -> None:
    """XP-04: another benchmark that measures twice as much is no step; the place is named as a boundary."""
    trend = trend_of(past, "p95")
    assert trend.searched == OTHER_FROM
    assert {point.yardstick for point in trend.points[:OTHER_FROM]}.isdisjoint(
        point.yardstick for point in trend.points[OTHER_FROM:]
    )
    (boundary,) = describe_boundaries(past)
    assert boundary.startswith("from campaign-16 on measured by benchmark 111111111111")


@pytest.mark.parametrize("changed", ["target", "load_tool"])
def test_another_target_or_load_tool_is_another_measure(changed: str) -> None:
    """XP-04: neither is mixed with what was before."""
    one = make_record(3)
    value = {"target": "docker", "load_tool": {"name": "k6", "version": "1"}}[changed]
    two = replace(one, campaign=replace(one.campaign, campaign_id="d", **{changed: value}))
    history = build_history([one, two], [], [], None)
    assert history.campaigns[0].yardstick != history.campaigns[1].yardstick


def test_the_table_says_it_in_a_line(past: History) -> None:
    """XP-04: a row per metric, with the change in words; the first and the latest of the present measure only."""
    text = "\n".join(render_trends(past))
    assert "promoted 2026-01-08T18:00:00Z: cand-07 in place of baseline by campaign campaign-07" in text
    line = next(line for line in text.splitlines() if "| p95 " in line)
    assert "(better) at campaign-08, after the promotion of cand-07" in line
    assert "|   4 |" in line
    assert "broken:" in text


@pytest.mark.parametrize("width", [100, 80, 40])
def test_nothing_is_wider_than_the_terminal(past: History, width: int) -> None:
    """XP-04: steps and drifts stand below the table there; where that is too wide still, a list tells the same."""
    lines = [*render_trends(past, width)]
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    assert "local jvm p95: step ×0.796 (better)" in text
    assert "(better) at campaign-08, after the promotion of cand-07" in text
    assert any(line.startswith("| local") for line in lines) is (width > 40)
    assert (", n 4" in text) is (width == 40)


def test_the_page_shows_it(past: History, tmp_path: Path) -> None:
    """XP-04: offline, wide and narrow: no request, no complaint; all points, promotions and flags are there."""
    page_text = render_history(past)
    assert page_text == render_history(past)
    path = tmp_path / "history.html"
    path.write_text(page_text, encoding="utf-8")
    with chromium() as browser:
        for width in (1280, 380):
            with opened(browser, path, width=width) as found:
                page = found.page
                assert page.locator("h1").inner_text() == "2 changes flagged"
                assert "after the promotion of cand-07" in page.locator(".first").inner_text()
                assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
                seen = "(all) => all.filter((one) => one.getClientRects().length && one.checkVisibility()).length"
                marks = page.locator("#trends .plot [data-tip]").evaluate_all(seen)
                # Of two metrics in two modes: twenty baselines and candidates, one promotion, one boundary.
                assert marks == 4 * (20 + 20 + 1 + 1)
                assert page.locator("#promotions tbody tr").count() == 1
                assert page.locator("#campaigns tbody tr").count() == 20
                assert found.requests == [path.as_uri()]
                assert found.complaints == []


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(words)
    said = capsys.readouterr()
    return code, said.out, said.err


def workspace_with(tmp_path: Path, names: Sequence[str]) -> Path:
    """Recorded campaigns under these names."""
    for name in names:
        folder = tmp_path / "campaigns" / name
        shutil.copytree(DATA / "campaigns" / "recorded", folder)
        for path in [folder / "campaign.json", *folder.glob("runs/*/*/cell-summary.json")]:
            path.write_text(path.read_text().replace('"recorded"', f'"{name}"'))
    return tmp_path


def test_the_command_writes_a_page_and_prints_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """XP-04: `staging-manager history`: a table; --format html a file; a broken campaign is left out by name."""
    root = workspace_with(tmp_path, ["one", "two"])
    (root / "campaigns" / "three").mkdir()
    (root / "campaigns" / "three" / "campaign.json").write_text("{")
    code, out, _ = run(capsys, "--root", str(root), "history")
    assert code == 0
    assert "campaigns: 2, promotions: 0" in out
    assert "three: campaign" in out
    code, out, _ = run(capsys, "--root", str(root), "history", "--format", "html", "--metric", "p95")
    assert (code, out) == (0, "wrote history.html\n")
    page = (root / "history.html").read_text()
    assert "Too few campaigns to look for steps and drifts" in page
    assert "heap_peak" not in page


def test_an_unknown_metric_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """XP-04: exit code 2 and what there is."""
    code, _, err = run(capsys, "--root", str(workspace_with(tmp_path, ["one"])), "history", "--metric", "p9")
    assert code == 2
    assert "--metric p9: no campaign has that. Known: fail_rate, gc_pause, heap_peak" in err


def test_without_ruptures_the_table_says_what_it_does_not_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """XP-04: the table needs no extra; that nothing is flagged is then said."""
    monkeypatch.setitem(__import__("sys").modules, "ruptures", None)
    code, out, err = run(capsys, "--root", str(workspace_with(tmp_path, ["one"])), "history")
    assert code == 0
    assert "| p95 " in out
    assert "not looked for without ruptures: pip install 'pytest-staging[report]'" in err


def test_an_empty_workspace_has_an_empty_history(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """XP-04: no traceback and no invented trend."""
    assert run(capsys, "--root", str(tmp_path), "history")[:2] == (0, "campaigns: 0, promotions: 0\n")
    assert run(capsys, "--root", str(tmp_path), "history", "--format", "html")[0] == 0
    assert "No campaign has measured anything yet" in (tmp_path / "history.html").read_text()
