"""k6's end-of-test summary in its three shapes, told apart by what they hold and never by k6's version.

- export: `--summary-export`. Values lie flat in each metric; a threshold `true` means breached.
- handle: the object that handleSummary gets. Values lie under `values`; a threshold is `{"ok": bool}`.
- machine: schema 1 of the machine-readable summary. Metrics are a list under `results`; p(99) and thresholds need not
  be there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_staging.loadtools.k6_workload import MEASURED_TAG, SUCCEEDED_TAG
from pytest_staging.loadtools.reading import count, latency, mapping, number, ordered

STATISTICS = {"p50": ("p(50)", "med"), "p95": ("p(95)",), "p99": ("p(99)",)}
Metrics = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One summary, over the measured scenario or the whole run. `seconds` is known only of the whole run."""

    shape: str
    requests: int
    failures: int
    percentiles_ms: Mapping[str, float]
    missing: Mapping[str, str] = field(default_factory=dict)
    iterations: int | None = None
    dropped: int = 0
    breached: tuple[str, ...] = ()
    seconds: float | None = None


def parse_summary(raw: Any, measured: bool) -> Summary:
    """`measured` reads the measured scenario alone. Raises ValueError for an unknown shape or a missing metric."""
    shape, metrics = read_shape(raw)
    tag = MEASURED_TAG if measured else ""
    requests = count(_value(metrics, f"http_reqs{tag}", "count"), f"http_reqs{tag}.count")
    failures = _failures(metrics, f"http_req_failed{tag}", requests)
    percentiles, missing = _percentiles(metrics, measured, requests, failures)
    return Summary(
        shape=shape,
        requests=requests,
        failures=failures,
        percentiles_ms=ordered(percentiles),
        missing=missing,
        iterations=_optional_count(metrics, f"iterations{tag}"),
        dropped=_optional_count(metrics, f"dropped_iterations{tag}") or 0,
        breached=_breached(metrics),
        seconds=None if measured else _seconds(metrics, requests),
    )


def parse_counts(raw: Any) -> Summary:
    """The whole run's requests and breached thresholds alone, to go with raw points. Raises ValueError."""
    shape, metrics = read_shape(raw)
    requests = count(_value(metrics, "http_reqs", "count"), "http_reqs.count")
    return Summary(shape=shape, requests=requests, failures=0, percentiles_ms={}, breached=_breached(metrics))


def read_shape(raw: Any) -> tuple[str, Metrics]:
    """The shape's name and its metrics by name, each with its values beside its thresholds. Raises ValueError."""
    top = mapping(raw, "the summary")
    if "results" in top and "version" in top:
        return "machine", _machine_metrics(top)
    metrics = {name: mapping(one, name) for name, one in mapping(top.get("metrics"), "metrics").items()}
    if not metrics:
        raise ValueError("it holds no metrics")
    nested = {name for name, one in metrics.items() if "values" in one}
    if not nested and all(one for one in metrics.values()):
        return "export", metrics
    if nested == set(metrics):
        flat = {
            name: {**mapping(one["values"], name), "thresholds": one.get("thresholds", {})}
            for name, one in metrics.items()
        }
        return "handle", flat
    raise ValueError("it has none of the shapes of a k6 summary that are known here")


def _machine_metrics(top: Mapping[str, Any]) -> Metrics:
    version = top["version"]
    if not isinstance(version, str) or version.split(".")[0] != "1":
        raise ValueError(f"it has version {version!r} of k6's machine-readable summary, and only 1 is known here")
    listed = mapping(top["results"], "results").get("metrics")
    if not isinstance(listed, list) or not listed:
        raise ValueError("results holds no metrics")
    found: dict[str, Mapping[str, Any]] = {}
    for one in listed:
        name = mapping(one, "a metric").get("name")
        if not isinstance(name, str) or name in found:
            raise ValueError(f"a metric has no name of its own: {name!r}")
        found[name] = mapping(one.get("values"), name)
    return found


def _failures(metrics: Metrics, name: str, requests: int) -> int:
    # k6 asks "failed?" of every request, so that its passes and matches are the failures.
    if name not in metrics:
        raise ValueError(f"{name} is not there: k6 was not told which answers are failures")
    values = metrics[name]
    failures = count(values.get("matches", values.get("passes")), f"{name}.passes")
    total = count(values["total"], f"{name}.total") if "total" in values else None
    if total is None:
        total = count(values.get("fails"), f"{name}.fails") + failures
    if failures > requests or total != requests:
        raise ValueError(f"{name} counts {total} requests, and http_reqs {requests}")
    return failures


def _percentiles(
    metrics: Metrics, measured: bool, requests: int, failures: int
) -> tuple[dict[str, float], dict[str, str]]:
    if failures == requests:
        return {}, dict.fromkeys(STATISTICS, "no request succeeded")
    name = f"http_req_duration{SUCCEEDED_TAG if measured else '{expected_response:true}'}"
    if name not in metrics and not failures and not measured:
        name = "http_req_duration"
    if name not in metrics:
        raise ValueError(f"{name} is not there")
    found: dict[str, float] = {}
    missing: dict[str, str] = {}
    for statistic, keys in STATISTICS.items():
        key = next((key for key in keys if metrics[name].get(key) is not None), None)
        if key is None:
            missing[statistic] = f"k6 gives no {keys[0]}; summaryTrendStats must name it, or ask for exact percentiles"
        else:
            found[statistic] = latency(metrics[name][key], f"{name}.{key}")
    return found, missing


def _breached(metrics: Metrics) -> tuple[str, ...]:
    found = []
    for name, values in metrics.items():
        if MEASURED_TAG[:-1] in name:
            continue  # our own, which only make k6 summarise by scenario
        for rule, state in mapping(values.get("thresholds", {}), f"{name}.thresholds").items():
            broken = not state.get("ok") if isinstance(state, dict) else state
            if not isinstance(broken, bool):
                raise ValueError(f"threshold {rule!r} of {name} is {state!r}")
            found += [f"{name}: {rule}"] * broken
    return tuple(sorted(found))


def _seconds(metrics: Metrics, requests: int) -> float | None:
    rate = metrics["http_reqs"].get("rate")
    if rate is None or not requests:
        return None
    found = number(rate, "http_reqs.rate")
    if found <= 0:
        raise ValueError(f"http_reqs.rate is {found}")
    return requests / found


def _value(metrics: Metrics, name: str, key: str) -> Any:
    if name not in metrics:
        raise ValueError(f"{name} is not there: the script made no HTTP request that was to be measured")
    return metrics[name].get(key)


def _optional_count(metrics: Metrics, name: str) -> int | None:
    return count(metrics[name].get("count"), f"{name}.count") if name in metrics else None
