"""From a load window's raw outcome to metrics."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_staging.campaign.results import compute_metrics
from pytest_staging.model.benchmark import LOAD_METRICS
from pytest_staging.model.ports import LoadResult

LATENCIES = st.lists(st.floats(0.001, 60_000), max_size=200).map(sorted)


def test_metrics_of_a_known_window():
    """SM-07: percentiles in ms, failed requests as a share of all, throughput in successful requests per second."""
    result = LoadResult(latencies_ms=[float(n) for n in range(1, 102)], requests=126, failures=25)
    metrics = compute_metrics(result, 4.0)
    assert tuple(metrics) == LOAD_METRICS  # the contract keeps these names from the metric sources
    assert metrics == {"p50": 51.0, "p95": 96.0, "p99": 100.0, "fail_rate": 25 / 126, "throughput": 25.25}


def test_percentiles_keep_what_lies_below_a_millisecond():
    """SM-07: p50, p95 and p99 come from raw latencies, never from rounded buckets."""
    metrics = compute_metrics(LoadResult(latencies_ms=[0.1234, 0.1235, 7.1236], requests=3, failures=0), 1.0)
    assert (metrics["p50"], metrics["p95"], metrics["p99"]) == (0.1235, 6.4236, 6.9836)


@given(LATENCIES, st.integers(0, 50), st.floats(0.1, 600))
def test_metrics_are_ordered_and_never_invented(latencies, failures, duration_s):
    """SM-08: a value is there exactly when something was measured, and lies within what was measured."""
    result = LoadResult(latencies_ms=latencies, requests=len(latencies) + failures, failures=failures)
    metrics = compute_metrics(result, duration_s)
    if latencies:
        low, high = round(latencies[0], 4), round(latencies[-1], 4)
        assert low <= metrics["p50"] <= metrics["p95"] <= metrics["p99"] <= high
    else:
        assert [metrics[name] for name in ("p50", "p95", "p99")] == [None, None, None]
    if result.requests:
        assert metrics["fail_rate"] == failures / result.requests
    else:
        assert metrics["fail_rate"] is None
    assert math.isclose(metrics["throughput"], len(latencies) / duration_s, abs_tol=1e-4)


@pytest.mark.parametrize(("requests", "fail_rate"), [(8, 1.0), (0, None)])
def test_a_window_without_a_success_has_no_percentile(requests, fail_rate):
    """SM-08: no successful request means no latency, not a latency of zero."""
    metrics = compute_metrics(LoadResult(latencies_ms=[], requests=requests, failures=requests), 1.0)
    assert metrics == {"p50": None, "p95": None, "p99": None, "fail_rate": fail_rate, "throughput": 0.0}
