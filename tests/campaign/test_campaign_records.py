"""Attempts and the journal: what is on disk after a cell, and after a second try at it."""

from __future__ import annotations

import json

import pytest
from cells import make_campaign, make_summary

from pytest_staging.campaign.records import Journal, prepare_attempt
from pytest_staging.model.campaign import Cell

CELL = Cell(3, "native", "fast")
HOME = "runs/run-003/fast__native"


def test_the_first_attempt_touches_nothing(tmp_path):
    """SM-07: a cell that was never tried is attempt 1."""
    assert prepare_attempt(tmp_path, CELL) == 1
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_attempt_is_kept_and_leaves_the_folder_empty(tmp_path):
    """XP-03: what an interrupted attempt left is kept apart, so that no file of it is taken for the next one's."""
    for attempt in (1, 2, 3):
        assert prepare_attempt(tmp_path, CELL) == attempt
        home = tmp_path / HOME
        home.mkdir(parents=True, exist_ok=True)
        assert [path.name for path in home.iterdir()] == (["attempts"] if attempt > 1 else [])
        (home / "service.log").write_text(f"attempt {attempt}")
        (home / "requests").mkdir()
    kept = sorted((tmp_path / HOME / "attempts").iterdir())
    assert [(path.name, (path / "service.log").read_text()) for path in kept] == [
        ("01", "attempt 1"), ("02", "attempt 2"),
    ]
    assert all((path / "requests").is_dir() for path in kept)


def test_the_first_result_of_a_cell_stands(tmp_path):
    """SM-07: a cell has one result; a second one, of a worker that died while reporting, is not taken."""
    campaign = make_campaign(runs=1)
    journal = Journal(tmp_path, campaign)
    path = journal.record(make_summary(campaign.cells[0], p95=1.0))
    assert journal.record(make_summary(campaign.cells[0], p95=2.0, outcome="failed")) is None
    assert json.loads(path.read_text())["metrics"]["p95"] == 1.0
    assert [summary.metrics["p95"] for summary in journal.finished()] == [1.0]


def test_a_journal_goes_on_where_another_ended(tmp_path):
    """XP-03: what is on disk is the state: a new journal has the finished cells, in the campaign's order."""
    campaign = make_campaign(runs=2)
    first = Journal(tmp_path, campaign)
    for cell in reversed(campaign.cells[:3]):
        first.record(make_summary(cell, p95=float(cell.run_index)))
    found = Journal(tmp_path, campaign)
    assert [summary.cell for summary in found.finished()] == list(campaign.cells[:3])
    assert found.record(make_summary(campaign.cells[1], p95=9.0)) is None
    assert found.record(make_summary(campaign.cells[3], p95=4.0)) is not None


def test_a_summary_says_which_cell_it_is_of(tmp_path):
    """SM-07: runs/run-001/<slug>__<mode>/cell-summary.json with the cell's run, version, mode, metrics and outcome."""
    campaign = make_campaign(runs=1)
    cell = campaign.cells[0]
    path = Journal(tmp_path, campaign).record(make_summary(cell, p95=1.5))
    assert path == tmp_path / f"runs/run-001/{cell.version_slug}__{cell.platform_mode}/cell-summary.json"
    data = json.loads(path.read_text())
    assert data["schema_version"] == 1
    assert (data["run_index"], data["version_slug"], data["platform_mode"]) == (
        1, cell.version_slug, cell.platform_mode,
    )


@pytest.mark.parametrize("text", ["", "{", '{"schema_version": 1}', "[]", "null"])
def test_a_broken_summary_names_its_file(tmp_path, text):
    """SM-07: a result that cannot be read is an error that names the file, not a missing cell."""
    from pytest_staging.model.errors import WorkspaceError

    campaign = make_campaign(runs=1)
    path = tmp_path / campaign.cells[0].folder / "cell-summary.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(WorkspaceError, match=r"cell-summary\.json"):
        Journal(tmp_path, campaign)
