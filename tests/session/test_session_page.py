"""The HTML report at the end of a campaign: written and named, or one line that says why not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from running import folder_of, make_small, run_campaign
from workspaces import give_up

from pytest_staging.campaign.evidence import load_record
from pytest_staging.model.record import CampaignRecord
from pytest_staging.reports import html
from pytest_staging.session import pages
from pytest_staging.store import Workspace

RECORDED = Path(__file__).parents[1] / "reports" / "data" / "v1"


@pytest.fixture
def record(tmp_path: Path) -> CampaignRecord:
    """The recorded campaign, with a folder that may be written to; it holds an older report."""
    (tmp_path / pages.PAGE).write_text("older")
    found = load_record(Workspace(RECORDED), "recorded")
    return CampaignRecord(**{**vars(found), "folder": tmp_path})


def test_a_campaign_writes_its_report_and_names_it(tmp_path: Path) -> None:
    """XP-04: with the extra, report.html is among the files written, and is what `report` would make of the folder."""
    if missing := html.missing_packages():
        give_up(f"{' and '.join(missing)} not installed: pip install 'pytest-staging[report]'")
    root = make_small(tmp_path / "w", ini="[pytest]\nstaging_required_modes = native\n")
    done = run_campaign(root)
    assert "wrote campaigns/c/report.html" in done.stdout, done.stdout
    record = load_record(Workspace(root), "c")
    assert (folder_of(root) / "report.html").read_text() == html.render_html(record)


def test_without_the_extra_a_line_says_how_to_get_it(
    record: CampaignRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """XP-04: no file, and least of all an older one."""
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    line = pages.write_page(record, "auto")
    assert line == "no report.html: vl_convert not installed here (pip install 'pytest-staging[report]')"
    assert not (record.folder / pages.PAGE).exists()


def test_the_ini_option_turns_it_off(record: CampaignRecord) -> None:
    """XP-04: `staging_html_report = never` writes nothing and says nothing."""
    assert pages.write_page(record, "never") == ""
    assert not (record.folder / pages.PAGE).exists()


def test_a_drawing_that_fails_costs_no_result(record: CampaignRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    """XP-04: what goes wrong is said, and the campaign goes on to tell its verdict."""
    def broken(_: CampaignRecord) -> str:
        raise RuntimeError("no font")

    monkeypatch.setattr(pages, "missing_packages", list)
    monkeypatch.setattr(pages, "render_html", broken)
    assert pages.write_page(record, "auto").startswith("no report.html: RuntimeError: no font.")


def test_another_value_of_the_option_is_refused_before_anything_runs(tmp_path: Path) -> None:
    """XP-04: exit code of bad input, with the values that there are."""
    root = make_small(tmp_path / "w", ini="[pytest]\nstaging_required_modes = native\nstaging_html_report = no\n")
    done = run_campaign(root)
    assert done.returncode == 2
    assert "staging_html_report = no: known are auto, never." in done.stdout
    assert not folder_of(root).exists()
