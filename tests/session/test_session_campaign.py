"""A whole campaign over local processes: its files, what it prints, how it ends."""

from __future__ import annotations

import hashlib
import itertools
import json
import statistics
from datetime import datetime, timedelta

import pytest
import yaml
from running import cell_ids, read_aggregate, read_campaign, read_summaries

from pytest_staging import store
from pytest_staging.campaign.comparing import build_aggregate
from pytest_staging.campaign.matrix import build_cells
from pytest_staging.campaign.planning import load_pinned_benchmark
from pytest_staging.model.campaign import Cell
from pytest_staging.reports.markdown import render_report

METRICS = ["p95", "fail_rate", "throughput", "heap_peak", "gc_pause"]
PHASES = ["lease", "build", "start", "warm_up", "load", "drain", "stop"]


def test_a_complete_campaign_exits_with_0(finished):
    """PT-01: `pytest --staging-campaign --runs 2` runs version × mode × run index without any test code."""
    assert finished.result.returncode == 0, finished.result.stdout
    assert "8 passed" in finished.result.stdout
    assert "test_project" not in finished.result.stdout


def test_every_cell_has_its_folder_with_its_evidence(finished):
    """SM-07: runs/run-001/<slug>__<mode>/cell-summary.json, logs beside it, under deterministic names."""
    names = {f"{slug}__{mode}" for slug in ("baseline", "faster") for mode in ("jvm", "native")}
    for run in ("run-001", "run-002"):
        folder = finished.folder / "runs" / run
        assert {path.name for path in folder.iterdir()} == names
        for name in names:
            files = {path.name for path in (folder / name).iterdir()}
            assert {"cell-summary.json", "service.log", "load.log", "samples.json", "requests.csv"} <= files
    assert len(list((finished.folder / "runs").iterdir())) == 2


def test_a_cell_summary_has_every_field(finished):
    """SM-07: cell-summary.json says which cell, what was measured, when, where, with what."""
    for summary in read_summaries(finished.root).values():
        assert summary["schema_version"] == 1
        assert (summary["outcome"], summary["reason"], summary["attempt"]) == ("passed", None, 1)
        assert list(summary["metrics"]) == METRICS
        started, ended = (datetime.fromisoformat(summary[f"{at}_at"].replace("Z", "+00:00"))
                          for at in ("started", "finished"))
        assert started < ended
        assert (started.utcoffset(), ended.utcoffset()) == (timedelta(0), timedelta(0))
        assert list(summary["phases"]) == PHASES
        assert {"name", "cpu", "cpus", "kernel", "memory_bytes", "load_average_1min"} <= set(summary["host"])
        assert (summary["load_tool"]["name"], summary["load_tool"]["failures"]) == ("locust", 0)
        assert len(summary["artifact"]["fingerprint"]) == 64
        assert summary["benchmark_sha256"] == read_campaign(finished.root)["benchmark_sha256"]
        assert summary["smoke"] is False


def test_the_cell_was_really_loaded(finished):
    """SM-07: the numbers come from this cell's own raw requests; throughput is their number over the window."""
    window_s = yaml.safe_load((finished.folder / "benchmark" / "benchmark.yaml").read_text())["load"]["duration_s"]
    for cell_id, summary in read_summaries(finished.root).items():
        rows = (finished.folder / Cell(summary["run_index"], summary["platform_mode"],
                                       summary["version_slug"]).folder / "requests.csv").read_text().splitlines()
        metrics, requests = summary["metrics"], summary["load_tool"]["requests"]
        assert 0 < requests < len(rows), cell_id
        assert metrics["throughput"] == pytest.approx(requests / window_s)
        assert metrics["fail_rate"] == 0
        latencies = [float(row.split(",")[1]) for row in rows[1:]]
        assert min(latencies) <= metrics["p95"] <= max(latencies)


def test_a_metric_that_does_not_exist_in_a_mode_is_null_with_its_reason(finished):
    """SM-07: heap from /metrics in jvm mode, peak memory in native mode, and no GC pause where there is no GC."""
    for summary in read_summaries(finished.root).values():
        if summary["platform_mode"] == "jvm":
            assert summary["metrics"]["heap_peak"] == 1000
            assert summary["metrics"]["gc_pause"] == 0
            assert summary["missing"] == {}
        else:
            assert summary["metrics"]["heap_peak"] > 1 << 20
            assert summary["metrics"]["gc_pause"] is None
            assert list(summary["missing"]) == ["gc_pause"]


def test_campaign_json_pins_what_decides_the_result(finished):
    """SM-07: campaign.json has benchmark_sha256, the seed, the order and every version's fingerprint."""
    campaign = read_campaign(finished.root)
    text = (finished.root / "benchmark" / "benchmark.yaml").read_bytes()
    assert campaign["benchmark_sha256"] == hashlib.sha256(text).hexdigest()
    assert (finished.folder / "benchmark" / "benchmark.yaml").read_bytes() == text
    assert (finished.folder / "benchmark" / "payloads" / "echo.json").read_text() == "{}"
    assert (campaign["schema_version"], campaign["seed"], campaign["order"]) == (1, 7, "balanced")
    assert (campaign["baseline_slug"], campaign["candidate_slugs"]) == ("baseline", ["faster"])
    assert (campaign["platform_modes"], campaign["runs"]) == (["jvm", "native"], 2)
    assert set(campaign["versions"]) == {"baseline", "faster"}
    assert len(set(campaign["versions"].values())) == 2
    cells = build_cells(["baseline", "faster"], ["jvm", "native"], 2, 7, "balanced")
    assert [cell["id"] for cell in campaign["cells"]] == [cell.cell_id for cell in cells]


def test_cells_ran_in_the_recorded_order_and_never_overlapped(finished):
    """PT-04: a block's versions run back to back, and no two cells share the host at once."""
    summaries = read_summaries(finished.root)
    assert list(summaries) == cell_ids(finished.root)
    times = [(one["started_at"], one["finished_at"]) for one in summaries.values()]
    assert all(earlier[1] <= later[0] for earlier, later in itertools.pairwise(times))


def test_the_aggregate_is_computed_from_the_cells(finished):
    """SM-08: median, mean, min, max for baseline, candidate and delta, per mode and metric."""
    aggregate, summaries = read_aggregate(finished.root), read_summaries(finished.root)
    assert (aggregate["schema_version"], aggregate["baseline_slug"]) == (1, "baseline")
    assert (aggregate["cells_planned"], aggregate["cells_passed"]) == (8, 8)
    rows = {(row["platform_mode"], row["metric"]): row for row in aggregate["rows"]}
    assert list(rows) == [(mode, metric) for mode in ("jvm", "native") for metric in METRICS]
    for (mode, metric), row in rows.items():
        if (mode, metric) == ("native", "gc_pause"):
            assert row["baseline"]["median"] is row["candidate"]["median"] is row["delta"]["median"] is None
            continue
        baseline, candidate = (
            [summaries[f"run00{run}-{mode}-{slug}"]["metrics"][metric] for run in (1, 2)]
            for slug in ("baseline", "faster")
        )
        for name, function in (("median", statistics.median), ("mean", statistics.fmean), ("min", min), ("max", max)):
            assert row["baseline"][name] == pytest.approx(function(baseline))
            assert row["candidate"][name] == pytest.approx(function(candidate))
            assert row["delta"][name] == pytest.approx(function(candidate) - function(baseline))
    missing = {(one["cell"], one["metric"]) for one in aggregate["missing"]}
    assert missing == {(cell_id, "gc_pause") for cell_id in summaries if "-native-" in cell_id}


def test_the_same_cells_give_the_same_files_again(finished):
    """SM-08: aggregate-comparison.json and .md are byte-identical when they are made again from the cells on disk."""
    campaign = store.load_campaign(finished.folder)
    benchmark = load_pinned_benchmark(finished.folder, campaign)
    aggregate = build_aggregate(campaign, benchmark, reversed(list(store.load_summaries(finished.folder, campaign))))
    assert (finished.folder / "aggregate-comparison.md").read_text() == render_report(aggregate)
    store.write_json(finished.root / "again.json", aggregate)
    assert (finished.folder / "aggregate-comparison.json").read_bytes() == (finished.root / "again.json").read_bytes()


def test_the_summary_prints_the_medians_and_names_the_files(finished):
    """PT-03: a markdown table of medians, what is missing, and the files written."""
    output = finished.result.stdout
    section = output[output.index("staging campaign c ="):]
    table = [line for line in section.splitlines() if line.startswith("|")]
    cells = [[word.strip() for word in line.strip("|").split("|")] for line in table]
    assert {"mode", "metric", "baseline", "candidate"} <= set(cells[0])
    assert [(row[0], row[1]) for row in cells[2:]] == [(mode, name) for mode in ("jvm", "native") for name in METRICS]
    for name in ("aggregate-comparison.md", "aggregate-comparison.json", "campaign.json"):
        assert f"wrote campaigns/c/{name}" in section
        assert (finished.folder / name).is_file()
    assert "gc_pause" in section[section.index("Missing:"):]
    report = (finished.folder / "aggregate-comparison.md").read_text()
    assert table == [line for line in report.splitlines() if line.startswith("|")][: len(table)]
    median = next(row for row in read_aggregate(finished.root)["rows"] if row["metric"] == "p95")["baseline"]["median"]
    assert f"{median:.4g}" in section


def test_hooks_run_on_the_controller_only(finished):
    """PT-04: pytest_staging_cell_finished per cell and pytest_staging_campaign_finished once, after their files."""
    lines = (finished.root / "hooks.txt").read_text().splitlines()
    assert lines == [
        *[f"controller cell {cell_id} passed True" for cell_id in cell_ids(finished.root)],
        "controller campaign c True",
    ]


def test_nothing_temporary_is_left(finished):
    """SM-07: a finished campaign leaves no temporary file, and the snapshots are as they were."""
    assert not (finished.folder / ".phase").exists()
    assert [path for path in finished.root.rglob("*.tmp*") if "__pycache__" not in path.parts] == []
    for slug, digest in read_campaign(finished.root)["versions"].items():
        workspace = store.Workspace(finished.root)
        assert store.load_version(workspace, slug).snapshot_fingerprint == digest


def test_progress_names_every_cell_once(finished):
    """PT-01: one line per cell with its result and an estimate of the time left."""
    lines = [line for line in finished.result.stdout.splitlines() if "  passed  " in line]
    assert [line.split()[:2] for line in lines] == [
        [f"{number}/8", cell_id] for number, cell_id in enumerate(cell_ids(finished.root), 1)
    ]
    assert all("left" in line for line in lines[:-1])


def test_json_files_are_plain_json(finished):
    """SM-08: every JSON file can be read by strict parsers: no NaN, a newline at the end."""
    def refuse(constant):
        raise AssertionError(constant)

    files = [path for path in finished.folder.rglob("*.json") if path.name not in ("load-plan.json", "samples.json")]
    assert len(files) >= 10
    for path in files:
        json.loads(path.read_text(), parse_constant=refuse)
        if path.parent.name != "payloads":
            assert path.read_bytes().endswith(b"}\n")
