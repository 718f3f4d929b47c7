"""A benchmark and campaigns' cells as data, for verdicts without any process."""

from __future__ import annotations

import json
from dataclasses import replace

from cells import make_summary

from pytest_staging import contract

METRICS = {
    "p95": {"unit": "ms", "direction": "lower", "tolerance": 0.1},
    "throughput": {"unit": "requests/s", "direction": "higher", "tolerance": 0.1},
    "fail_rate": {"unit": "share", "direction": "lower", "absolute_tolerance": 0.01},
    "gc_pause": {"unit": "ms", "direction": "lower", "tolerance": 0.5, "absolute_tolerance": 2.0},
    "heap_peak": {"unit": "bytes", "direction": "lower", "tolerance": 0.1, "advisory": True},
}
COUNTED = ["p95", "throughput", "fail_rate", "gc_pause"]


def make_benchmark(metrics=METRICS):
    """A benchmark with these metrics."""
    return contract.parse_benchmark(json.dumps({
        "platform_modes": ["jvm", "native"],
        "load": {"shape": "closed", "users": 1, "duration_s": 1},
        "payloads": {"echo": "echo.json"},
        "metrics": metrics,
    }))


BENCHMARK = make_benchmark()


def noise(cell):
    """A small change that is never the same twice and belongs to the candidates only."""
    return 1.0 if cell.version_slug == "baseline" else 1.0 + 0.001 * (cell.run_index + len(cell.version_slug))


def measured(campaign, change=None):
    """Summaries in which nothing differs but noise; `change(cell, metrics)` alters one cell's metrics."""
    found = []
    for cell in campaign.cells:
        base = 10.0 + cell.run_index
        metrics = {"p95": base * noise(cell), "throughput": 100.0 / noise(cell), "fail_rate": 0.001 * noise(cell),
                   "gc_pause": 5.0 * noise(cell), "heap_peak": 1e6 * noise(cell)}
        native = cell.platform_mode == "native"
        if native:
            metrics["gc_pause"] = None
        if change:
            change(cell, metrics)
        missing = {"gc_pause": "no collector"} if native else None
        summary = make_summary(cell, missing=missing, **metrics)
        found.append(replace(summary, inapplicable=("gc_pause",) if native else ()))
    return found


def slower(slug="fast", factor=1.5, metric="p95", mode="jvm"):
    """A change that makes one metric of one version in one mode worse."""
    def change(cell, metrics):
        if (cell.version_slug, cell.platform_mode) == (slug, mode):
            metrics[metric] *= factor * noise(cell)
    return change


def rows_by_name(aggregate):
    """Rows by candidate, mode and metric."""
    return {(row["candidate_slug"], row["platform_mode"], row["metric"]): row for row in aggregate["rows"]}


def drop(summaries, *cell_ids):
    """The summaries without these cells."""
    return [one for one in summaries if one.cell.cell_id not in cell_ids]
