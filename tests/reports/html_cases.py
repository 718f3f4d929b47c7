"""Campaign records as data, for tests of the HTML report."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
sys.path += [path for folder in ("campaign", "verdict") if (path := str(TESTS / folder)) not in sys.path]

from cells import make_campaign  # noqa: E402
from made_up import BENCHMARK, METRICS, make_benchmark, measured  # noqa: E402

from pytest_staging.campaign.comparing import build_aggregate  # noqa: E402
from pytest_staging.model.campaign import CellSummary  # noqa: E402
from pytest_staging.model.record import CampaignRecord  # noqa: E402

ALL = BENCHMARK
FEW = make_benchmark({name: METRICS[name] for name in ("p95", "heap_peak")})
"""One metric that counts and one that does not: quick to draw, for tests of the words around the plots."""
HOST = {"name": "lab", "cpu": "Made Up 3000", "cpus": 2, "kernel": "Linux 6", "machine": "x86_64",
        "memory_bytes": 2**33, "load_average_1min": 0.25}  # fmt: skip
EVIL = "<script>document.title='owned'</script><img src=x onerror=alert(1)>"
Change = Callable[[Any, dict[str, Any]], None]


def make_record(
    runs: int = 10,
    *,
    change: Change | None = None,
    alter: Callable[[CellSummary], CellSummary | None] = lambda one: one,
    candidates: tuple[str, ...] = ("fast",),
    benchmark: Any = FEW,
    **campaign: Any,
) -> CampaignRecord:
    """A campaign of which nothing differs but noise. `change` alters metrics, `alter` whole cells; None drops one."""
    planned = replace(make_campaign(runs, candidates), **campaign)
    phases = {"lease": 0.0, "build": 0.01, "start": 0.2, "warm_up": 2.0, "load": 3.0, "drain": 0.1, "stop": 0.05}
    cells = [
        replace(one, campaign_id=planned.campaign_id, host=HOST, phases=phases,
                artifact={"fingerprint": "a" * 64, "ref": f"{one.version_slug}:1", "id": "sha256:" + "b" * 64})
        for one in measured(planned, change)
    ]  # fmt: skip
    kept = [one for cell in cells if (one := alter(cell)) is not None]
    aggregate = build_aggregate(planned, benchmark, kept)
    return CampaignRecord(
        folder=Path("campaigns") / planned.campaign_id,
        campaign=planned,
        benchmark=benchmark,
        summaries=kept,
        aggregate=aggregate,
    )


def failing(run: int, slug: str, outcome: str = "failed", reason: str = EVIL, tail: str = EVIL) -> Any:
    """An `alter` that makes the cells of one run and version fail."""

    def alter(one: CellSummary) -> CellSummary:
        if (one.run_index, one.version_slug) != (run, slug):
            return one
        return replace(one, outcome=outcome, reason=reason, log_tail=tail)

    return alter
