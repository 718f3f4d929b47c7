"""Keeping an earlier attempt apart, cut off at every step."""

from __future__ import annotations

import pytest
from cells import make_campaign, make_summary

from pytest_staging import durable, store
from pytest_staging.campaign.records import Journal, prepare_attempt, sweep
from pytest_staging.model.campaign import Cell

CELL = Cell(1, "native", "fast")
LEFT = {"cell-summary.json": "{}", "service.log": "one", "load.log": "two"}


class CutOff(BaseException):
    """Stands for a process that dies."""


def leave(folder):
    """What a failed attempt leaves."""
    home = folder / CELL.folder
    home.mkdir(parents=True, exist_ok=True)
    for name, text in LEFT.items():
        (home / name).write_text(text)
    return home


def cut_off_at(monkeypatch, step):
    """The `step`-th step on the file system is the last."""
    left = [step]

    def count(what, path):
        left[0] -= 1
        if not left[0]:
            raise CutOff

    monkeypatch.setattr(durable, "on_step", count)


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_cut_off_at_any_step_the_attempt_is_kept_whole(tmp_path, monkeypatch, step):
    """XP-03: whatever instant ends the move, the next one completes it: one attempt with all its files."""
    home = leave(tmp_path)
    with monkeypatch.context() as patched:
        cut_off_at(patched, step)
        with pytest.raises(CutOff):
            prepare_attempt(tmp_path, CELL)
    sweep(tmp_path)
    assert prepare_attempt(tmp_path, CELL) == 2
    assert [path.name for path in home.iterdir()] == ["attempts"]
    (kept,) = (home / "attempts").iterdir()
    assert kept.name == "01"
    assert {path.name: path.read_text() for path in kept.iterdir()} == LEFT


def test_a_journal_that_retries_takes_one_new_result(tmp_path):
    """XP-03: of a failed cell the second try stands, once; until then the failure does."""
    campaign = make_campaign(runs=1)
    cell = campaign.cells[0]
    Journal(tmp_path, campaign).record(make_summary(cell, "failed", p95=None))
    journal = Journal(tmp_path, campaign, retry_failed=True)
    assert [one.outcome for one in journal.finished()] == ["failed"]
    prepare_attempt(tmp_path, cell)
    assert journal.finished() == []
    assert journal.record(make_summary(cell, p95=1.0)) is not None
    assert journal.record(make_summary(cell, p95=2.0)) is None
    assert [one.metrics["p95"] for one in store.load_summaries(tmp_path, campaign)] == [1.0]
    assert [one.metrics["p95"] for one in journal.finished()] == [1.0]


@pytest.mark.parametrize("name", [".campaign.json.x.tmp", "looks/.look-010.json.x.tmp",
                                  "runs/run-001/fast__native/.cell-summary.json.x.tmp"])
def test_half_written_files_are_swept(tmp_path, name):
    """XP-03: what a killed writer left under a temporary name goes, what is finished stays."""
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("half")
    finished = path.with_name("finished.json")
    finished.write_text("{}")
    sweep(tmp_path)
    assert not path.exists()
    assert finished.exists()
