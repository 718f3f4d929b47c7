"""From one load window's raw outcome to the cell's metrics."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_staging.model.benchmark import MetricSpec
from pytest_staging.model.ports import LoadResult
from pytest_staging.stats import unusable_reason
from pytest_staging.stats.summary import percentile

PERCENTILES = {"p50": 50.0, "p95": 95.0, "p99": 99.0}


def compute_metrics(result: LoadResult, duration_s: float) -> Mapping[str, float | None]:
    """Percentiles in ms over successful requests, `fail_rate` as a share, `throughput` in successful requests/s."""
    latencies = result.latencies_ms
    metrics: dict[str, float | None] = {
        name: round(percentile(latencies, q), 4) if latencies else result.percentiles_ms.get(name)
        for name, q in PERCENTILES.items()
    }
    metrics["fail_rate"] = result.failures / result.requests if result.requests else None
    # Not the number of latencies: some tools keep none.
    metrics["throughput"] = round((result.requests - result.failures) / (result.duration_s or duration_s), 4)
    return metrics


def why_unusable(value: float | None, spec: MetricSpec) -> str | None:
    """Why a measured value cannot be compared as the benchmark says; None when it can, or is missing anyway."""
    why = None if value is None else unusable_reason(value, absolute=spec.tolerance is None)
    return f"{value:g} {why}" if why else None
