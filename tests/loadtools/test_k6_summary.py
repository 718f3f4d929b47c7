"""k6's recorded summaries, good and bad: what is read from them, and what is refused."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
from toolcases import DATA

from pytest_staging.loadtools.k6_summary import parse_summary, read_shape
from pytest_staging.loadtools.k6_workload import MEASURED_TAG, SUCCEEDED_TAG
from pytest_staging.loadtools.reading import load_json, strict_json
from pytest_staging.model.errors import LoadFailed

FILES = sorted((DATA / "k6").glob("*summary*.json"))
EVERYTHING = sorted(path for path in DATA.rglob("*") if path.is_file())


def recorded(name: str) -> dict[str, Any]:
    return json.loads((DATA / "k6" / f"{name}.json").read_text())


def as_machine(export: dict[str, Any], version: str = "1.0.0") -> dict[str, Any]:
    """The same run in the newer shape, by that shape's own rules: fixed statistics, matches and totals."""
    metrics = []
    for name, values in export["metrics"].items():
        if "fails" in values:
            total = values["passes"] + values["fails"]
            kind, kept = "rate", {"matches": values["passes"], "total": total, "rate": values["value"]}
        elif "count" in values:
            kind, kept = "counter", {"count": values["count"]}
        elif "avg" in values:
            names = ("avg", "min", "med", "max", "p(90)", "p(95)")
            kind, kept = "trend", {key: values[key] for key in names if key in values}
        else:
            kind, kept = "gauge", dict(values)
        metrics.append({"name": name, "type": kind, "contains": "default", "values": kept})
    return {
        "version": version,
        "config": {"duration": 8.0, "execution": "local", "script": "script.js"},
        "metadata": {"generatedAt": "2026-01-31T12:00:00Z", "k6Version": "2.0.0"},
        "results": {"metrics": metrics, "checks": {}},
    }


def by_scenario(raw: dict[str, Any]) -> dict[str, Any]:
    """The run as if it had been parted by scenario, and the warm-up had been as long as the rest."""
    parted = copy.deepcopy(raw)
    metrics = parted["metrics"]
    for name in ("http_reqs", "http_req_failed", "iterations", "dropped_iterations"):
        if name in metrics:
            metrics[f"{name}{MEASURED_TAG}"] = {**metrics[name], "thresholds": {"count>=0": False}}
            for key in ("count", "passes", "fails"):
                if key in metrics[name]:
                    metrics[name][key] *= 2
    metrics[f"http_req_duration{SUCCEEDED_TAG}"] = metrics["http_req_duration{expected_response:true}"]
    return parted


def test_the_shapes_are_told_apart() -> None:
    """SM-08: by what they hold; the same run says the same in each."""
    export = recorded("summary-export-arrival-rate")
    assert read_shape(export)[0] == "export"
    assert read_shape(as_machine(export))[0] == "machine"
    assert read_shape(recorded("handle-summary-threshold-breached"))[0] == "handle"
    one, two = parse_summary(export, False), parse_summary(as_machine(export), False)
    assert (one.requests, one.failures, one.dropped) == (two.requests, two.failures, two.dropped) == (7996, 0, 4)
    assert one.percentiles_ms["p95"] == two.percentiles_ms["p95"] == 0.85574375


def test_an_open_load() -> None:
    """XP-06: dropped iterations are read; they are what the generator, or the service, could not keep up with."""
    found = parse_summary(recorded("summary-export-arrival-rate"), False)
    assert found.percentiles_ms == {"p50": 0.210985, "p95": 0.85574375, "p99": 3.046193000000001}
    assert (found.iterations, found.dropped, found.breached) == (7996, 4, ())
    assert found.seconds == pytest.approx(8.0, rel=0.001)


@pytest.mark.parametrize("name", ["summary-export-all-404", "summary-export-connection-refused"])
def test_failures(name: str) -> None:
    """XP-06: `passes` of http_req_failed are the failed requests; their latencies are none that count."""
    raw = recorded(name)
    found = parse_summary(raw, False)
    assert found.requests == found.failures == raw["metrics"]["http_reqs"]["count"] > 10_000
    assert found.percentiles_ms == {}
    assert found.missing == dict.fromkeys(("p50", "p95", "p99"), "no request succeeded")
    assert found.breached == ("http_req_duration: p(95)<0.1", "http_req_failed: rate<0.01")


def test_a_breached_threshold_of_handle_summary() -> None:
    """SM-08: there a threshold is {ok: bool}, and in an export `true` means breached."""
    found = parse_summary(recorded("handle-summary-threshold-breached"), False)
    assert found.breached == ("http_req_duration: p(95)<0.1",)
    assert (found.requests, found.failures) == (38215, 0)
    assert found.percentiles_ms["p99"] == 2.484798180000001


def test_a_statistic_that_is_not_there() -> None:
    """SM-08: p99 is missing with its reason, and the others are there: no value is made up."""
    found = parse_summary(recorded("summary-export-default-stats-no-p99"), False)
    assert found.percentiles_ms == {"p50": 0.252056, "p95": 0.8114330000000003}
    assert list(found.missing) == ["p99"]
    assert "k6 gives no p(99); summaryTrendStats must name it, or ask for exact percentiles" in found.missing["p99"]


def test_the_measured_scenario_alone() -> None:
    """SM-08: the warm-up is left out, and our own thresholds are nobody's business."""
    found = parse_summary(by_scenario(recorded("summary-export-arrival-rate")), True)
    assert (found.requests, found.failures, found.iterations, found.dropped) == (7996, 0, 7996, 4)
    assert (found.breached, found.seconds) == ((), None)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_summary_that_does_not_part_the_warm_up(path: Path) -> None:
    """XP-06: the whole run is not taken for the measured part of it."""
    with pytest.raises(ValueError, match=r"http_reqs\{scenario:measured\} is not there"):
        parse_summary(json.loads(path.read_text()), True)


@pytest.mark.parametrize("path", EVERYTHING, ids=lambda path: path.name)
def test_truncated_at_each_tenth(path: Path, tmp_path: Path) -> None:
    """XP-06: a summary that is cut off, or is none at all, is refused."""
    whole = path.read_bytes()
    for tenth in range(10 if path in FILES else 11):
        cut = tmp_path / "k6-summary.json"
        cut.write_bytes(whole[: len(whole) * tenth // 10])
        with pytest.raises(LoadFailed, match=r"k6-summary\.json of k6 is broken"):
            load_json(cut, "k6")


BAD = [None, "1,5", "0.8", True, [], {}, -1, 1e300, 10**400]


@pytest.mark.parametrize("bad", BAD, ids=lambda value: repr(value)[:12])
@pytest.mark.parametrize(
    ("metric", "key"),
    [
        ("http_reqs", "count"),
        ("http_req_failed", "passes"),
        ("http_req_failed", "fails"),
        ("http_req_duration{expected_response:true}", "p(95)"),
        ("dropped_iterations", "count"),
        ("iterations", "count"),
        ("http_reqs", "rate"),
    ],
)
def test_values_that_are_none(metric: str, key: str, bad: object) -> None:
    """XP-06: null, text, other locales' numbers, negative and huge ones are refused, or missing with a reason."""
    raw = recorded("summary-export-arrival-rate")
    raw["metrics"][metric][key] = bad
    if (key == "p(95)" and bad is None) or (key == "rate" and bad in (None, 1e300)):
        found = parse_summary(raw, False)
        assert "p95" in found.missing or found.seconds is None or found.seconds < 1e-200
        return
    with pytest.raises(ValueError, match=re.escape(metric)):
        parse_summary(raw, False)


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_literals_that_json_does_not_know(path: Path, literal: str) -> None:
    """XP-06: Python would read them; they are no numbers of a measurement."""
    text = re.sub(r'("p\(95\)": )[0-9.]+', rf"\g<1>{literal}", path.read_text())
    with pytest.raises(ValueError, match="is no number of JSON"):
        strict_json(text.encode())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
@pytest.mark.parametrize("metric", ["http_reqs", "http_req_failed"])
def test_metrics_that_are_missing(path: Path, metric: str) -> None:
    """XP-06: no request count and no failure count is ever taken for zero."""
    raw = json.loads(path.read_text())
    del raw["metrics"][metric]
    with pytest.raises(ValueError, match=metric):
        parse_summary(raw, False)


def test_latencies_that_are_missing() -> None:
    """XP-06: with failures among the requests the latency of all is not the latency of those that succeeded."""
    raw = recorded("points-summary")
    del raw["metrics"]["http_req_duration{expected_response:true}"]
    with pytest.raises(ValueError, match="expected_response:true"):
        parse_summary(raw, False)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ([], "the summary is no object"),
        ({}, "metrics is no object"),
        ({"metrics": {}}, "holds no metrics"),
        ({"metrics": {"a": {}}}, "none of the shapes"),
        ({"metrics": {"a": 1}}, "a is no object"),
        ({"metrics": {"a": {"values": {"count": 1}}, "b": {"count": 1}}}, "none of the shapes"),
        ({"metrics": {"a": {"values": 3}}}, "a is no object"),
        ({"results": {}, "version": "1.0.0"}, "results holds no metrics"),
        ({"results": {"metrics": []}, "version": "1.0.0"}, "results holds no metrics"),
        ({"results": {"metrics": [{"name": 3}]}, "version": "1.2"}, "no name of its own"),
        ({"results": {"metrics": [3]}, "version": "1.2"}, "a metric is no object"),
        ({"results": {"metrics": []}, "version": "2.0.0"}, "version '2.0.0'.* only 1 is known"),
        ({"results": {"metrics": []}, "version": 1}, "version 1 of"),
    ],
    ids=str,
)
def test_unknown_shapes(raw: object, message: str) -> None:
    """SM-08: what is not known is refused by name, never half read."""
    with pytest.raises(ValueError, match=message):
        parse_summary(raw, False)


def test_counts_that_contradict_each_other() -> None:
    """XP-06: two counts of the same requests that differ mean that one of them is wrong."""
    raw = recorded("summary-export-arrival-rate")
    raw["metrics"]["http_req_failed"]["fails"] -= 1
    with pytest.raises(ValueError, match="counts 7995 requests, and http_reqs 7996"):
        parse_summary(raw, False)
    raw = recorded("summary-export-arrival-rate")
    raw["metrics"]["http_req_duration{expected_response:true}"]["p(99)"] = 0.3
    with pytest.raises(ValueError, match="p95 is above p99"):
        parse_summary(raw, False)
