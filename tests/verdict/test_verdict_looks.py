"""The stopping rule over made-up cells: where a campaign with `--runs auto` ends, and what it says there."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from cells import make_campaign
from made_up import BENCHMARK, measured, rows_by_name, slower

from pytest_staging import stats
from pytest_staging.campaign.comparing import build_aggregate, conclude, look_is_complete
from pytest_staging.campaign.records import Journal, look_path, read_look

LOOKS = (10, 15, 20, 30)


def make_auto(candidates=("fast",)):
    """A campaign as `--runs auto` plans it."""
    return replace(make_campaign(runs=LOOKS[-1], candidates=candidates), looks=LOOKS)


def wavering(cell, metrics):
    """Noise of the size of the tolerance: too much for ten blocks, not for thirty."""
    if (cell.version_slug, cell.platform_mode) == ("fast", "jvm"):
        metrics["p95"] *= (0.9, 1.12, 0.95)[cell.run_index % 3]


def first_runs(campaign, runs, change=None):
    """Summaries of the cells up to a run."""
    return [one for one in measured(campaign, change) if one.run_index <= runs]


def by_cell(summaries):
    return {one.cell.cell_id: one for one in summaries}


@pytest.mark.parametrize(("change", "verdict"), [(None, "pass"), (slower(factor=3), "regression")])
def test_a_clear_result_stops_at_the_first_look(change, verdict):
    """XP-02: at 10 blocks a clear pass or regression is the conclusion; nothing more needs to run."""
    campaign = make_auto()
    aggregate = build_aggregate(campaign, BENCHMARK, first_runs(campaign, 10, change))
    assert (aggregate["runs"], aggregate["runs_planned"], aggregate["verdict"]) == (10, 30, verdict)
    assert aggregate["stopped"]
    assert (aggregate["complete"], aggregate["cells_planned"]) == (True, 40)
    assert {row["p_holm"] for row in aggregate["rows"]} == {None}


def test_an_unclear_result_goes_on_to_the_next_look():
    """XP-02: what ten blocks cannot tell goes on, and is decided at a later look over all its blocks."""
    campaign = make_auto()
    unclear = conclude(campaign, BENCHMARK, by_cell(first_runs(campaign, 10, wavering)))
    assert unclear.stopped is None
    assert unclear.judgement.verdict is stats.Verdict.INCONCLUSIVE
    later = conclude(campaign, BENCHMARK, by_cell(measured(campaign, wavering)))
    assert later.runs in LOOKS[1:]
    assert later.stopped
    assert later.comparisons["fast jvm p95"].n == later.runs


def test_cells_beyond_the_look_are_ignored():
    """XP-02: a worker that was ahead of the decision adds nothing: the same bytes with and without its cells."""
    campaign = make_auto()
    exact = build_aggregate(campaign, BENCHMARK, first_runs(campaign, 10))
    ahead = [replace(one, metrics={**one.metrics, "p95": 9999.0}) if one.run_index > 10 else one
             for one in first_runs(campaign, 12)]
    assert json.dumps(build_aggregate(campaign, BENCHMARK, ahead)) == json.dumps(exact)


@pytest.mark.parametrize("change", [None, slower(factor=3)])
@pytest.mark.parametrize("runs", [3, 9, 12])
def test_between_two_looks_nothing_is_concluded(runs, change):
    """XP-02: judging at a number of blocks that is no look would be one look more than the error rates allow."""
    campaign = make_auto()
    summaries = first_runs(campaign, runs, change)
    if runs == 12:  # The look at 10 must not have stopped it.
        summaries = drop_first_block(summaries)
    aggregate = build_aggregate(campaign, BENCHMARK, summaries)
    assert (aggregate["verdict"], aggregate["stopped"], aggregate["complete"]) == ("inconclusive", None, False)
    assert "the look at 10 runs is not reached" in aggregate["verdict_reason"]
    counted = [row for row in aggregate["rows"] if row["applicable"] and not row["advisory"]]
    assert {row["verdict"] for row in counted} == {"inconclusive"}
    assert aggregate["candidates"]["fast"]["verdict"] == "inconclusive"


def drop_first_block(summaries):
    return [one for one in summaries if one.run_index != 1]


def test_a_failed_cell_completes_its_look():
    """XP-02: a failed cell is a result: its block is dropped and the look decides over the others."""
    campaign = make_auto()
    summaries = [replace(one, outcome="failed", reason="died") if one.cell.cell_id == "run003-jvm-fast" else one
                 for one in first_runs(campaign, 10)]
    assert look_is_complete(campaign, by_cell(summaries), 10)
    aggregate = build_aggregate(campaign, BENCHMARK, summaries)
    assert rows_by_name(aggregate)["fast", "jvm", "p95"]["n"] == 9
    assert (aggregate["runs"], aggregate["complete"]) == (10, False)


def test_futility_stops_without_a_verdict():
    """XP-02: when more blocks are needed than the last look has, the campaign ends inconclusive and says why."""
    campaign = make_auto()

    def wild(cell, metrics):
        if (cell.version_slug, cell.platform_mode) == ("fast", "jvm"):
            metrics["p95"] *= (0.5, 2.0)[cell.run_index % 2]
    aggregate = build_aggregate(campaign, BENCHMARK, first_runs(campaign, 10, wild))
    assert (aggregate["runs"], aggregate["verdict"]) == (10, "inconclusive")
    assert "more than 30 blocks would be needed: fast jvm p95" in aggregate["stopped"]


def test_levels_are_those_of_all_planned_comparisons():
    """XP-02: the level of a regression at a look counts every candidate's comparisons, as planned."""
    one = stats.stopping_levels(8).regression[0]
    assert stats.stopping_levels(16).regression[0] < one
    # 10 blocks have a smallest p of 2**-10: enough at the first look for 8 comparisons and for 21, not for 24.
    # Three candidates have 21 that apply, but 24 were planned, and a level must not depend on what was measured.
    assert stats.stopping_levels(24).regression[0] < 2**-10 < stats.stopping_levels(21).regression[0] < one
    for candidates, stopped_at in ((("fast",), 10), (("fast", "b", "d"), 15)):
        campaign = make_auto(candidates)
        aggregate = build_aggregate(campaign, BENCHMARK, first_runs(campaign, 15, slower(factor=3)))
        assert (aggregate["runs"], aggregate["candidates"]["fast"]["verdict"]) == (stopped_at, "regression")


def test_the_decision_of_a_look_is_written_once_it_is_complete(tmp_path):
    """XP-02: workers read from a file whether to go on; it appears with the look's last cell, and not before."""
    campaign = make_auto()
    journal = Journal(tmp_path, campaign)
    *most, last = first_runs(campaign, 10)
    for summary in most:
        journal.record(summary)
    journal.decide_looks(BENCHMARK)
    assert read_look(tmp_path, 10) is None
    journal.record(last)
    journal.decide_looks(BENCHMARK)
    assert (read_look(tmp_path, 10), read_look(tmp_path, 15)) == (True, None)
    assert json.loads(look_path(tmp_path, 10).read_text())["reason"]


def test_a_look_is_decided_anew_when_a_failed_cell_is_tried_again(tmp_path):
    """XP-02: --staging-retry-failed takes the decision back that was made without the cell, until it is there."""
    campaign = make_auto()
    first = Journal(tmp_path, campaign)
    for summary in first_runs(campaign, 10):
        died = summary.cell.cell_id == "run003-jvm-fast"
        first.record(replace(summary, outcome="failed", reason="died") if died else summary)
    first.decide_looks(BENCHMARK)
    assert read_look(tmp_path, 10) is True
    again = Journal(tmp_path, campaign, retry_failed=True)
    again.decide_looks(BENCHMARK)
    assert read_look(tmp_path, 10) is None
    repaired = next(one for one in measured(campaign) if one.cell.cell_id == "run003-jvm-fast")
    again.record(replace(repaired, metrics={**repaired.metrics, "p95": repaired.metrics["p95"] * 1.3}))
    again.decide_looks(BENCHMARK)
    assert conclude(campaign, BENCHMARK, again.summaries).stopped is None
    assert read_look(tmp_path, 10) is False
