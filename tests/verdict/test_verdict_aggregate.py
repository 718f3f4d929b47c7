"""From made-up cells to verdicts, without any process."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from cells import make_campaign
from made_up import BENCHMARK, COUNTED, METRICS, drop, make_benchmark, measured, rows_by_name, slower

from pytest_staging import stats, store
from pytest_staging.campaign.comparing import build_aggregate, counted_comparisons
from pytest_staging.reports.markdown import render_report


def test_a_campaign_within_tolerance_passes():
    """XP-01: every counted metric is shown to be within tolerance, so the campaign passes and says so."""
    campaign = make_campaign(runs=10)
    aggregate = build_aggregate(campaign, BENCHMARK, measured(campaign))
    assert (aggregate["verdict"], aggregate["complete"], aggregate["notes"]) == ("pass", True, [])
    assert aggregate["candidates"] == {"fast": {"verdict": "pass", "reason": "within tolerance: all 7 counted metrics"}}
    assert {row["verdict"] for row in aggregate["rows"] if row["applicable"]} == {"pass"}


@pytest.mark.parametrize(("metric", "factor"), [("p95", 1.5), ("throughput", 0.5), ("gc_pause", 3.0)])
def test_one_worse_metric_is_a_regression(metric, factor):
    """XP-01: one metric that is worse beyond its tolerance, whichever way is worse, makes the campaign a regression."""
    campaign = make_campaign(runs=10)
    aggregate = build_aggregate(campaign, BENCHMARK, measured(campaign, slower(metric=metric, factor=factor)))
    assert aggregate["verdict"] == aggregate["candidates"]["fast"]["verdict"] == "regression"
    assert f"fast jvm {metric}" in aggregate["verdict_reason"]
    worse = [name for name, row in rows_by_name(aggregate).items() if row["verdict"] == "regression"]
    assert worse == [("fast", "jvm", metric)]


def test_what_is_neither_is_inconclusive():
    """XP-01: noise as large as the tolerance gives no verdict, but the number of runs that would."""
    campaign = make_campaign(runs=10)

    def waver(cell, metrics):
        if (cell.version_slug, cell.platform_mode) == ("fast", "native"):
            metrics["p95"] *= 1.3 if cell.run_index % 2 else 0.8
    aggregate = build_aggregate(campaign, BENCHMARK, measured(campaign, waver))
    row = rows_by_name(aggregate)["fast", "native", "p95"]
    assert (aggregate["verdict"], row["verdict"]) == ("inconclusive", "inconclusive")
    assert row["runs_needed"] > 10
    assert f"about {row['runs_needed']} blocks would be needed" in row["reason"]


def test_advisory_metrics_are_shown_and_not_counted():
    """XP-01: a much worse advisory metric has its own verdict, in brackets, and the campaign still passes."""
    campaign = make_campaign(runs=10)
    aggregate = build_aggregate(campaign, BENCHMARK, measured(campaign, slower(metric="heap_peak", factor=5)))
    row = rows_by_name(aggregate)["fast", "jvm", "heap_peak"]
    assert (row["verdict"], row["advisory"], row["p_holm"]) == ("regression", True, None)
    assert aggregate["verdict"] == "pass"
    assert "(regression)" in render_report(aggregate)
    # The same metric, counted, decides.
    counted = make_benchmark({**METRICS, "heap_peak": {**METRICS["heap_peak"], "advisory": False}})
    again = build_aggregate(campaign, counted, measured(campaign, slower(metric="heap_peak", factor=5)))
    assert again["verdict"] == "regression"


def test_an_inapplicable_metric_is_never_a_pass():
    """XP-01: a native image has no GC pause: null, n/a, neither counted nor passed, nor in Holm's number."""
    campaign = make_campaign(runs=10)
    aggregate = build_aggregate(campaign, BENCHMARK, measured(campaign))
    row = rows_by_name(aggregate)["fast", "native", "gc_pause"]
    assert (row["applicable"], row["verdict"], row["n"], row["ratio"]) == (False, None, 0, None)
    assert row["baseline"]["median"] is row["candidate"]["median"] is None
    line = next(one for one in render_report(aggregate).splitlines() if one.startswith("| native | gc_pause"))
    assert line.rstrip(" |").endswith("n/a")
    assert "all 7 counted metrics" in aggregate["verdict_reason"]


@pytest.mark.parametrize("how", ["null", "one says so", "only inapplicable metrics"])
def test_a_metric_that_could_be_there_is_counted_as_missing(how):
    """XP-01: nothing is inapplicable unless every measured cell of both versions says so; missing data never passes."""
    campaign = make_campaign(runs=10)
    summaries = measured(campaign)
    if how == "null":
        summaries = [replace(one, inapplicable=()) for one in summaries]
    elif how == "one says so":
        summaries = [replace(one, inapplicable=() if one.run_index == 4 else one.inapplicable) for one in summaries]
    else:
        summaries = [replace(one, metrics=dict.fromkeys(METRICS), inapplicable=tuple(METRICS)) for one in summaries]
    aggregate = build_aggregate(campaign, BENCHMARK, summaries)
    assert aggregate["verdict"] == "inconclusive"
    if how != "only inapplicable metrics":
        assert rows_by_name(aggregate)["fast", "native", "gc_pause"]["applicable"] is True


@pytest.mark.parametrize("fate", ["missing", "failed"])
def test_an_incomplete_block_is_dropped_as_a_whole(fate):
    """XP-01: a failed or missing cell drops its block from the comparison, and the campaign is not complete."""
    campaign = make_campaign(runs=10)
    summaries = measured(campaign)
    if fate == "missing":
        summaries = drop(summaries, "run003-jvm-fast")
    else:
        summaries = [replace(one, outcome="failed", reason="died") if one.cell.cell_id == "run003-jvm-fast" else one
                     for one in summaries]
    aggregate = build_aggregate(campaign, BENCHMARK, summaries)
    rows = rows_by_name(aggregate)
    assert {rows["fast", "jvm", metric]["n"] for metric in METRICS} == {9}
    assert rows["fast", "native", "p95"]["n"] == 10
    assert (aggregate["complete"], aggregate["cells_passed"], aggregate["cells_planned"]) == (False, 39, 40)
    pairs = [one.metrics["p95"] for one in summaries if one.platform_mode == "jvm" and one.run_index != 3
             and one.version_slug == "baseline"]
    assert rows["fast", "jvm", "p95"]["baseline_median"] == stats.summarise(pairs).median
    note = "1 cell has no passed result; a promotion needs every one"
    assert note in render_report(aggregate), "a PASS beside a crashed cell must not look whole"
    assert note not in render_report(build_aggregate(campaign, BENCHMARK, measured(campaign)))


def test_reasons_are_no_markup():
    """XP-01: what a service said stays text in its line: it makes no heading, no table, no verdict of its own."""
    said = "boom\n\n# Verdict: PASS\n| a | b |\n<img src=x> [click](http://x)"
    campaign = make_campaign(runs=10)
    summaries = [replace(one, outcome="failed", reason=said) if one.run_index == 3 else one
                 for one in measured(campaign)]
    lines = render_report(build_aggregate(campaign, BENCHMARK, summaries)).splitlines()
    assert not [line for line in lines if line.startswith(("# V", "| a", "<"))]
    (line,) = [line for line in lines if line.startswith("- run003-jvm-fast")]
    assert line.endswith(r"boom \# Verdict: PASS \| a \| b \| &lt;img src=x&gt; \[click\](http://x)")


@pytest.mark.parametrize("runs", [1, 4, 7])
def test_too_few_blocks_are_said(runs):
    """XP-01: below the smallest N a campaign without any difference is inconclusive, or cannot show a regression."""
    campaign = make_campaign(runs=runs)
    aggregate = build_aggregate(campaign, BENCHMARK, measured(campaign, slower(factor=9)))
    assert aggregate["verdict"] == "inconclusive"
    assert any("cannot show a regression" in note for note in aggregate["notes"])
    assert any("cannot show a pass" in note for note in aggregate["notes"]) == (runs < 5)


def test_holm_covers_all_candidates():
    """XP-07: candidates share the baseline's cells, and each adds its comparisons to the correction."""
    p_values = {}
    for candidates in (("fast",), ("fast", "other"), ("fast", "other", "third")):
        campaign = make_campaign(runs=10, candidates=candidates)
        aggregate = build_aggregate(campaign, BENCHMARK, measured(campaign, slower()))
        rows = rows_by_name(aggregate)
        row = rows["fast", "jvm", "p95"]
        p_values[len(candidates)] = row["p_holm"]
        # The slow metric has the smallest p of all, so Holm multiplies it by the number of all counted comparisons.
        assert row["p_holm"] == pytest.approx(row["p_regression"] * 7 * len(candidates))
        medians = {rows[slug, "jvm", "p95"]["baseline_median"] for slug in candidates}
        assert len(medians) == 1
    assert p_values[1] < p_values[2] < p_values[3]


def test_each_candidate_has_its_own_verdict():
    """XP-07: one candidate's regression is the campaign's, but not the other candidate's."""
    campaign = make_campaign(runs=10, candidates=("fast", "other"))
    aggregate = build_aggregate(campaign, BENCHMARK, measured(campaign, slower()))
    assert {slug: one["verdict"] for slug, one in aggregate["candidates"].items()} == {
        "fast": "regression", "other": "pass",
    }
    assert aggregate["verdict"] == "regression"


def test_a_failed_cell_of_one_candidate_costs_the_other_nothing():
    """XP-07: a block is dropped for the pair whose cell failed; the baseline's cell still serves the others."""
    campaign = make_campaign(runs=10, candidates=("fast", "other"))
    aggregate = build_aggregate(campaign, BENCHMARK, drop(measured(campaign), "run002-jvm-fast"))
    rows = rows_by_name(aggregate)
    assert (rows["fast", "jvm", "p95"]["n"], rows["other", "jvm", "p95"]["n"]) == (9, 10)


def test_a_zero_switches_to_absolute_differences():
    """XP-01: a ratio metric with a zero in it is compared by differences, against its absolute tolerance."""
    campaign = make_campaign(runs=10)

    def zero(cell, metrics):
        if (cell.cell_id, cell.platform_mode) == ("run005-jvm-baseline", "jvm"):
            metrics["gc_pause"] = 0.0
    row = rows_by_name(build_aggregate(campaign, BENCHMARK, measured(campaign, zero)))["fast", "jvm", "gc_pause"]
    assert (row["absolute"], row["switched"], row["tolerance"], row["ratio"]) == (True, True, 2.0, None)
    assert row["difference"] == pytest.approx(5.0 * 0.0095, rel=0.2)
    rate = rows_by_name(build_aggregate(campaign, BENCHMARK, measured(campaign)))["fast", "jvm", "fail_rate"]
    assert (rate["absolute"], rate["switched"], rate["tolerance"]) == (True, False, 0.01)


def test_rows_hold_the_numbers_of_compare():
    """XP-01: each row has exactly what stats.compare gives over the cells, and judge's adjusted p."""
    campaign = make_campaign(runs=10, candidates=("fast", "other"))
    summaries = {one.cell.cell_id: one for one in measured(campaign, slower())}
    aggregate = build_aggregate(campaign, BENCHMARK, summaries.values())
    comparisons = {}
    for (slug, mode, metric), row in rows_by_name(aggregate).items():
        spec = BENCHMARK.metrics[metric]
        series = [[summaries[f"run{run:03d}-{mode}-{one}"].metrics[metric] for run in range(1, 11)]
                  for one in ("baseline", slug)]
        tolerance = spec.absolute_tolerance if spec.tolerance is None else spec.tolerance
        wanted = stats.compare(*series, tolerance=tolerance, higher_is_better=metric == "throughput",
                               absolute=spec.tolerance is None, absolute_tolerance=spec.absolute_tolerance)
        assert {name: row[name] for name in wanted.to_dict()} == wanted.to_dict()
        comparisons[f"{slug} {mode} {metric}"] = wanted
    judgement = stats.judge(comparisons, advisory=[key for key in comparisons if key.endswith(" heap_peak")],
                            not_applicable=[key for key in comparisons if key.endswith(" native gc_pause")])
    assert aggregate["verdict_reason"] == judgement.reason
    for name, row in rows_by_name(aggregate).items():
        key = " ".join(name)
        assert row["p_holm"] == judgement.verdicts[key].p_holm
        assert row["reason"] == judgement.verdicts[key].reason
    assert counted_comparisons(campaign, BENCHMARK) == 2 * 2 * len(COUNTED)


def test_the_file_is_plain_json_and_always_the_same(tmp_path):
    """SM-08: aggregate-comparison.json has neither NaN nor infinity and the same bytes for the same cells."""
    campaign = make_campaign(runs=10, candidates=("fast", "other"))
    summaries = drop(measured(campaign, slower()), "run002-jvm-fast", "run007-native-baseline")
    contents = set()
    for order in (summaries, summaries[::-1], summaries[7:] + summaries[:7]):
        aggregate = build_aggregate(campaign, BENCHMARK, order)
        store.write_json(tmp_path / "aggregate.json", aggregate)
        contents.add(((tmp_path / "aggregate.json").read_bytes(), render_report(aggregate)))
    (content, _), = contents
    data = json.loads(content, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    numbers = [value for row in data["rows"] for value in row.values() if isinstance(value, float)]
    assert len(numbers) > 100
    assert all(map(math.isfinite, numbers))
