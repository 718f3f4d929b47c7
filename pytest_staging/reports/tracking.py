"""Measured values for services that track benchmarks over time: Bencher and github-action-benchmark."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from pytest_staging.model.record import CampaignRecord
from pytest_staging.reports.aggregate import dump
from pytest_staging.reports.markdown import show_estimate, show_interval, show_value, show_verdict
from pytest_staging.wording import number_of

LONGEST_MEASURE = 64  # characters in the name of a measure of Bencher's
BASELINE, CANDIDATE = "baseline", "candidate"


def render_bmf(record: CampaignRecord) -> str:
    """Bencher Metric Format: a benchmark per mode and version, a measure per metric.

    Medians over runs have no interval. A candidate also has the estimate that the verdict rests on, `p95-ratio` or
    `fail_rate-difference`, with its 95 % limits as lower and upper value where they are bounded.
    """
    found: dict[str, dict[str, Any]] = {}
    for side, row in _sides(record):
        median = row[side]["median"]
        measures = found.setdefault(_benchmark_name(record, side, row), {})
        if median is not None:
            measures[_measure(row["metric"], "")] = {"value": median}
        if side == CANDIDATE and (estimate := _estimate(row)):
            measures[_measure(row["metric"], "-difference" if row["absolute"] else "-ratio")] = estimate
    return dump({name: measures for name, measures in found.items() if measures})


def render_smaller_is_better(record: CampaignRecord) -> str:
    """`customSmallerIsBetter` of github-action-benchmark: the metrics of which less is better."""
    return dump(list(_entries(record, higher=False)))


def render_bigger_is_better(record: CampaignRecord) -> str:
    """`customBiggerIsBetter` of github-action-benchmark: the metrics of which more is better."""
    return dump(list(_entries(record, higher=True)))


def _entries(record: CampaignRecord, higher: bool) -> Iterator[dict[str, Any]]:
    for side, row in _sides(record):
        statistics = row[side]
        if row["higher_is_better"] is not higher or statistics["median"] is None:
            continue
        low, high = (show_value(statistics[name], row["unit"]) for name in ("min", "max"))
        yield {
            "name": f"{_benchmark_name(record, side, row)} {row['metric']}",
            "unit": row["unit"],
            "value": statistics["median"],
            "range": f"{low} .. {high}",
            "extra": _extra(record, side, row),
        }


def _extra(record: CampaignRecord, side: str, row: Mapping[str, Any]) -> str:
    lines = [f"median of {number_of(row[side]['n'], 'run')}, campaign {record.campaign.campaign_id}"]
    if side == CANDIDATE:
        change = "difference from" if row["absolute"] else "ratio to"
        lines.append(f"{change} {record.campaign.baseline_slug}: {show_estimate(row)} (95 %: {show_interval(row)})")
        if not record.campaign.smoke:
            lines.append(f"{show_verdict(row)}: {row['reason']}")
    return "\n".join(lines)


def _sides(record: CampaignRecord) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The baseline once for each mode and metric, however many candidates are compared with it; each candidate."""
    seen = set()
    for row in record.aggregate["rows"]:
        key = (row["platform_mode"], row["metric"])
        if key not in seen:
            seen.add(key)
            yield BASELINE, row
        yield CANDIDATE, row


def _benchmark_name(record: CampaignRecord, side: str, row: Mapping[str, Any]) -> str:
    slug = record.campaign.baseline_slug if side == BASELINE else row["candidate_slug"]
    return f"{row['platform_mode']}/{slug}"


def _estimate(row: Mapping[str, Any]) -> dict[str, float]:
    value = row["difference"] if row["absolute"] else row["ratio"]
    limits = {"value": value, "lower_value": row["ci_low"], "upper_value": row["ci_high"]}
    return {} if value is None else {name: one for name, one in limits.items() if one is not None}


def _measure(metric: str, suffix: str) -> str:
    """A longer name is cut, with a digest of the whole: still one name for one metric."""
    name = f"{metric}{suffix}"
    if len(name) <= LONGEST_MEASURE:
        return name
    return f"{name[: LONGEST_MEASURE - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
