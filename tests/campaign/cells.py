"""Campaigns and cell summaries as data, for tests of what is computed from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pytest_staging import contract
from pytest_staging.campaign.matrix import build_cells
from pytest_staging.model.benchmark import Benchmark
from pytest_staging.model.campaign import Campaign, Cell, CellSummary

INSTANT = "2026-01-01T00:00:00.000Z"


def make_benchmark(metrics: Mapping[str, str]) -> Benchmark:
    """A benchmark with these metrics; each value is `lower` or `higher`."""
    lines = [f"  {name}: {{unit: ms, direction: {direction}, tolerance: 0.1}}" for name, direction in metrics.items()]
    return contract.parse_benchmark(
        "platform_modes: [jvm, native]\nload: {shape: closed, users: 1, duration_s: 1}\npayloads: {echo: echo.json}\n"
        "metrics:\n" + "\n".join(lines) + "\n"
    )


def make_campaign(
    runs: int, candidates: Sequence[str] = ("fast",), modes: Sequence[str] = ("jvm", "native")
) -> Campaign:
    """A campaign as planned from a workspace."""
    slugs = ["baseline", *candidates]
    return Campaign(
        campaign_id="c",
        created_at=INSTANT,
        baseline_slug="baseline",
        candidate_slugs=tuple(candidates),
        platform_modes=tuple(modes),
        functions=("echo",),
        runs=runs,
        seed=1,
        order="balanced",
        smoke=False,
        target="local",
        benchmark_path="/w/benchmark/benchmark.yaml",
        benchmark_sha256="0" * 64,
        benchmark_files={},
        versions=dict.fromkeys(slugs, "f" * 64),
        load_tool={"name": "locust", "version": "2"},
        cells=build_cells(slugs, modes, runs, 1, "balanced"),
    )


def make_summary(cell: Cell, outcome: str = "passed", missing: Mapping[str, str] | None = None,
                 **metrics: float | None) -> CellSummary:
    """What came of one cell."""
    facts: dict[str, Any] = {"reason": "the service died"} if outcome == "failed" else {}
    return CellSummary(
        campaign_id="c",
        run_index=cell.run_index,
        version_slug=cell.version_slug,
        platform_mode=cell.platform_mode,
        attempt=1,
        outcome=outcome,
        started_at=INSTANT,
        finished_at=INSTANT,
        metrics=metrics,
        missing=missing or {},
        **facts,
    )
