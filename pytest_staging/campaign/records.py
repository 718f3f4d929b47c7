"""The one writer of a campaign's results: journals cells as they come, and aggregates what is there."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pytest_staging import durable, store
from pytest_staging.model.benchmark import Benchmark
from pytest_staging.model.campaign import Campaign, Cell, CellSummary
from pytest_staging.stats.summary import summarise

AGGREGATE_SCHEMA_VERSION = 1
STATISTICS = ("median", "mean", "min", "max")


class Journal:
    """Cells' summaries on disk and in memory. The first finished result of a cell stands."""

    def __init__(self, folder: Path, campaign: Campaign) -> None:
        self.folder = folder
        self.campaign = campaign
        self.summaries: dict[str, CellSummary] = {
            summary.cell.cell_id: summary for summary in store.load_summaries(folder, campaign)
        }

    def record(self, summary: CellSummary) -> Path | None:
        """Writes the summary; None when the cell has its result already (a crashed worker may report twice)."""
        cell_id = summary.cell.cell_id
        if cell_id in self.summaries:
            return None
        path = store.save_summary(self.folder, summary)
        self.summaries[cell_id] = summary
        return path

    def finished(self) -> list[CellSummary]:
        """In the campaign's order."""
        return [self.summaries[cell.cell_id] for cell in self.campaign.cells if cell.cell_id in self.summaries]


def prepare_attempt(folder: Path, cell: Cell) -> int:
    """Moves what an earlier attempt at the cell left into attempts/NN, and gives this attempt's number, from 1."""
    home = folder / cell.folder
    attempts = home / "attempts"
    number = 1 + (len(list(attempts.iterdir())) if attempts.is_dir() else 0)
    left = [path for path in home.iterdir() if path != attempts] if home.is_dir() else []
    if not left:
        return number
    with durable.storing(home), durable.new_folder(attempts / f"{number:02d}") as kept:
        for path in left:
            shutil.move(str(path), kept / path.name)
    return number + 1


def build_aggregate(campaign: Campaign, benchmark: Benchmark, summaries: Iterable[CellSummary]) -> dict[str, Any]:
    """`aggregate-comparison.json`: the same cells give the same data. What is missing is said, never filled in."""
    by_cell = {summary.cell.cell_id: summary for summary in summaries}
    rows = [
        _row(campaign, benchmark, by_cell, candidate, mode, metric)
        for candidate in campaign.candidate_slugs
        for mode in campaign.platform_modes
        for metric in benchmark.metrics
    ]
    return {
        "schema_version": AGGREGATE_SCHEMA_VERSION,
        "campaign_id": campaign.campaign_id,
        "baseline_slug": campaign.baseline_slug,
        "candidate_slugs": list(campaign.candidate_slugs),
        "smoke": campaign.smoke,
        "runs": campaign.runs,
        "cells_planned": len(campaign.cells),
        "cells_passed": sum(summary.passed for summary in by_cell.values()),
        "rows": rows,
        "missing": _missing(campaign, by_cell),
    }


def _row(campaign: Campaign, benchmark: Benchmark, by_cell: Mapping[str, CellSummary], candidate: str, mode: str,
         metric: str) -> dict[str, Any]:
    baseline = _statistics(_values(campaign, by_cell, campaign.baseline_slug, mode, metric))
    against = _statistics(_values(campaign, by_cell, candidate, mode, metric))
    return {
        "candidate_slug": candidate,
        "platform_mode": mode,
        "metric": metric,
        "unit": benchmark.metrics[metric].unit,
        "baseline": baseline,
        "candidate": against,
        "delta": {
            name: against[name] - baseline[name] if baseline[name] is not None and against[name] is not None else None
            for name in STATISTICS
        },
    }


def _values(campaign: Campaign, by_cell: Mapping[str, CellSummary], slug: str, mode: str, metric: str) -> list[float]:
    found = (by_cell.get(Cell(run + 1, mode, slug).cell_id) for run in range(campaign.runs))
    values = (summary.metrics.get(metric) for summary in found if summary is not None and summary.passed)
    return [value for value in values if value is not None]


def _statistics(values: list[float]) -> dict[str, Any]:
    summary = summarise(values)
    return {**{name: getattr(summary, name, None) for name in STATISTICS}, "n": len(values)}


def _missing(campaign: Campaign, by_cell: Mapping[str, CellSummary]) -> list[dict[str, Any]]:
    """Cells without a result, failed cells, and metrics that a passed cell does not have, in the campaign's order."""
    missing: list[dict[str, Any]] = []
    for cell in sorted(campaign.cells):
        summary = by_cell.get(cell.cell_id)
        if summary is None:
            missing.append({"cell": cell.cell_id, "metric": None, "reason": "not run"})
        elif not summary.passed:
            missing.append({"cell": cell.cell_id, "metric": None, "reason": summary.reason})
        else:
            missing += [
                {"cell": cell.cell_id, "metric": metric, "reason": reason} for metric, reason in summary.missing.items()
            ]
    return missing
