"""A campaign with everything that came of it: what reports are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_staging.model.benchmark import Benchmark
from pytest_staging.model.campaign import Campaign, CellSummary


@dataclass(frozen=True, kw_only=True)
class CampaignRecord:
    """`summaries` are the standing results, in the campaign's order; `aggregate` is computed from them anew.

    `folder` is the campaign's; cells' logs and samples lie below it.
    """

    folder: Path
    campaign: Campaign
    benchmark: Benchmark
    summaries: Sequence[CellSummary]
    aggregate: Mapping[str, Any]
