"""Campaign records as data: what reports are made of, without any process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cells import make_campaign
from made_up import BENCHMARK, measured

from pytest_staging.campaign.comparing import build_aggregate
from pytest_staging.model.benchmark import Benchmark
from pytest_staging.model.campaign import Campaign, CellSummary
from pytest_staging.model.record import CampaignRecord

Change = Callable[[CellSummary], CellSummary | None]


def make_record(
    *, runs: int = 8, candidates: Sequence[str] = ("fast",), modes: Sequence[str] = ("jvm", "native"),
    benchmark: Benchmark = BENCHMARK, metrics: Callable[..., Any] | None = None, change: Change | None = None,
    folder: Path = Path("campaigns/c"), **facts: Any,
) -> CampaignRecord:
    """A finished campaign. `metrics` alters a cell's values in place, `change` its summary; None is a cell not run."""
    campaign: Campaign = replace(make_campaign(runs, candidates, modes),
                                 **{"benchmark_path": "benchmark/benchmark.yaml", **facts})
    found = [replace(one, campaign_id=campaign.campaign_id) for one in measured(campaign, metrics)]
    summaries = [new for one in found if (new := change(one) if change else one)]
    return CampaignRecord(folder=folder, campaign=campaign, benchmark=benchmark, summaries=summaries,
                          aggregate=build_aggregate(campaign, benchmark, summaries))


def failing(cell_id: str, reason: str = "the service died", log_tail: str = "") -> Change:
    """One cell of which failed."""
    def change(summary: CellSummary) -> CellSummary:
        if summary.cell.cell_id != cell_id:
            return summary
        return replace(summary, outcome="failed", reason=reason, log_tail=log_tail)

    return change
