"""aggregate-comparison.json: statistics of what was measured, and a list of what was not."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import replace

import pytest
from cells import make_benchmark, make_campaign, make_summary
from hypothesis import given
from hypothesis import strategies as st

from pytest_staging.campaign.comparing import build_aggregate

BENCHMARK = make_benchmark({"p95": "lower", "throughput": "higher"})
STATISTICS = ("median", "mean", "min", "max")
# One entry per cell: a value, a cell that failed, a cell that did not run, or a metric that the cell could not tell.
FATES = st.one_of(st.floats(0.001, 1e6), st.sampled_from(["failed", "not run", "no metric"]))


def summaries_of(campaign, fates):
    """Summaries of the campaign's cells by their fates."""
    found = []
    for cell, fate in zip(campaign.cells, fates, strict=True):
        if fate == "failed":
            # The value of a failed cell is there on purpose: it must not be used.
            found.append(make_summary(cell, "failed", p95=123456789.0, throughput=1.0))
        elif fate == "no metric":
            found.append(make_summary(cell, missing={"p95": "no scrape succeeded"}, p95=None, throughput=2.0))
        elif fate != "not run":
            found.append(make_summary(cell, p95=fate, throughput=2.0))
    return found


def row_of(aggregate, candidate, mode, metric):
    """The one row about this candidate, mode and metric."""
    (row,) = [
        row
        for row in aggregate["rows"]
        if (row["candidate_slug"], row["platform_mode"], row["metric"]) == (candidate, mode, metric)
    ]
    return row


def expected(values):
    """The statistics by their definitions."""
    if not values:
        return dict.fromkeys(STATISTICS)
    return {
        "median": statistics.median(values),
        "mean": statistics.fmean(values),
        "min": min(values),
        "max": max(values),
    }


@given(st.data())
def test_only_what_was_measured_is_aggregated(data):
    """SM-08: median, mean, min and max over the passed cells; delta is candidate - baseline; nothing is invented."""
    campaign = make_campaign(runs=data.draw(st.integers(1, 3)), candidates=("fast", "small"))
    fates = data.draw(st.lists(FATES, min_size=len(campaign.cells), max_size=len(campaign.cells)))
    aggregate = build_aggregate(campaign, BENCHMARK, summaries_of(campaign, fates))
    by_cell = dict(zip(campaign.cells, fates, strict=True))
    for candidate in campaign.candidate_slugs:
        for mode in campaign.platform_modes:
            row = row_of(aggregate, candidate, mode, "p95")
            sides = {}
            for side, slug in (("baseline", "baseline"), ("candidate", candidate)):
                values = [
                    fate for cell, fate in by_cell.items()
                    if (cell.version_slug, cell.platform_mode) == (slug, mode) and isinstance(fate, float)
                ]
                sides[side] = expected(values)
                for name in STATISTICS:
                    assert same(row[side][name], sides[side][name]), (side, name)
            for name in STATISTICS:
                both = sides["baseline"][name], sides["candidate"][name]
                difference = None if None in both else both[1] - both[0]
                assert same(row["delta"][name], difference), name


def same(found, wanted):
    """Equal up to rounding; None only equals None."""
    if found is None or wanted is None:
        return found is wanted
    return math.isclose(found, wanted, rel_tol=1e-9, abs_tol=1e-6)


@given(st.data())
def test_whatever_is_missing_is_named(data):
    """SM-08: every cell that did not run or failed, and every metric that a passed cell lacks, stands in `missing`."""
    campaign = make_campaign(runs=2)
    fates = data.draw(st.lists(FATES, min_size=len(campaign.cells), max_size=len(campaign.cells)))
    aggregate = build_aggregate(campaign, BENCHMARK, summaries_of(campaign, fates))
    reasons = {"failed": "the service died", "not run": "not run", "no metric": "no scrape succeeded"}
    wanted = {
        (cell.cell_id, "p95" if fate == "no metric" else None, reasons[fate])
        for cell, fate in zip(campaign.cells, fates, strict=True)
        if isinstance(fate, str)
    }
    found = [(one["cell"], one["metric"], one["reason"]) for one in aggregate["missing"]]
    assert set(found) == wanted
    assert len(found) == len(wanted)
    assert aggregate["cells_planned"] == len(fates)
    assert aggregate["cells_passed"] == sum(fate not in ("failed", "not run") for fate in fates)
    json.dumps(aggregate, allow_nan=False)


def test_a_campaign_without_any_result_has_only_nulls():
    """SM-08: aggregates of nothing are null, not zero."""
    aggregate = build_aggregate(make_campaign(runs=1), BENCHMARK, [])
    assert len(aggregate["rows"]) == 4
    for row in aggregate["rows"]:
        for part in ("baseline", "candidate", "delta"):
            assert [row[part][name] for name in STATISTICS] == [None] * 4
    assert aggregate["cells_passed"] == 0


def test_the_order_in_which_results_arrive_changes_nothing():
    """SM-08: the same cells give the same bytes, whichever worker reported first."""
    campaign = make_campaign(runs=3, candidates=("fast", "small"))
    summaries = summaries_of(campaign, [float(n % 5 + 1) for n in range(len(campaign.cells))])
    ways = [summaries, summaries[::-1], summaries[5:] + summaries[:5]]
    assert len({json.dumps(build_aggregate(campaign, BENCHMARK, way)) for way in ways}) == 1


@pytest.mark.parametrize("key", ["schema_version", "campaign_id", "baseline_slug", "candidate_slugs", "smoke",
                                 "missing"])
def test_the_aggregate_says_what_it_is_about(key):
    """SM-08: aggregate-comparison.json has a versioned schema and names its campaign and versions."""
    aggregate = build_aggregate(make_campaign(runs=1, modes=("jvm",)), BENCHMARK, [])
    wanted = {
        "schema_version": 1,
        "campaign_id": "c",
        "baseline_slug": "baseline",
        "candidate_slugs": ["fast"],
        "smoke": False,
        "missing": [
            {"cell": "run001-jvm-baseline", "metric": None, "reason": "not run"},
            {"cell": "run001-jvm-fast", "metric": None, "reason": "not run"},
        ],
    }
    assert aggregate[key] == wanted[key]


def test_rows_follow_the_files():
    """SM-08: one row per candidate, mode and metric, in the order of the command line and of the benchmark."""
    campaign = make_campaign(runs=1, candidates=("z", "a"), modes=("native", "jvm"))
    rows = build_aggregate(campaign, BENCHMARK, [])["rows"]
    assert [(row["candidate_slug"], row["platform_mode"], row["metric"], row["unit"]) for row in rows] == [
        (candidate, mode, metric, "ms")
        for candidate in ("z", "a")
        for mode in ("native", "jvm")
        for metric in ("p95", "throughput")
    ]


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (-1.0, "-1 has no ratio; compare it by an absolute_tolerance alone"),
        (1e200, "1e+200 is not a finite number in the measurable range"),
        (math.nan, "nan is not a finite number in the measurable range"),
    ],
)
def test_a_value_that_cannot_be_compared_is_missing_with_the_reason(value, why):
    """SM-08: it costs its own block, never the campaign: other metrics are judged, and it is no pass."""
    campaign = make_campaign(runs=6, modes=("jvm",))
    cells = [make_summary(cell, p95=value, throughput=2.0) for cell in campaign.cells]
    aggregate = build_aggregate(campaign, BENCHMARK, cells)
    row = row_of(aggregate, "fast", "jvm", "p95")
    assert (row["n"], row["baseline"]["n"], row["verdict"]) == (0, 0, "inconclusive")
    assert row_of(aggregate, "fast", "jvm", "throughput")["verdict"] == "pass"
    assert {(one["metric"], one["reason"]) for one in aggregate["missing"]} == {("p95", why)}
    json.dumps(aggregate, allow_nan=False)


def test_a_value_of_a_metric_that_is_called_inapplicable_is_judged():
    """SM-08: a cell that says both has measured something."""
    campaign = make_campaign(runs=1, modes=("jvm",))
    cells = [replace(make_summary(cell, p95=1.0, throughput=2.0), inapplicable=("p95",)) for cell in campaign.cells]
    assert row_of(build_aggregate(campaign, BENCHMARK, cells), "fast", "jvm", "p95")["applicable"]
