"""Campaigns on disk without load: planned by the project's own functions, their cells filled with made-up values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from running import make_small

from pytest_staging import store, wiring
from pytest_staging.campaign.planning import CampaignRequest, create_folder, plan_campaign
from pytest_staging.images.artifact import ArtifactBuilder
from pytest_staging.images.cache import ImageCache
from pytest_staging.model.campaign import Campaign, Cell, CellSummary
from pytest_staging.store import Workspace
from pytest_staging.targets.local import LocalTarget

INSTANT = "2026-01-01T00:00:00.000Z"
NO_GC = {"gc_pause": "a native process has no garbage collector to report"}
Fate = Callable[[Cell], float | None]
"""How slow a cell is: a factor on its times; 0 stands for a failed cell, None for one that did not run."""


def passing(cell: Cell) -> float | None:
    """The candidate is as fast as the baseline, apart from a little noise."""
    return 1.0 + 0.001 * cell.run_index * (cell.version_slug != "baseline")


def regressing(cell: Cell) -> float | None:
    """The candidate takes twice as long."""
    return 1.0 if cell.version_slug == "baseline" else 2.0 + 0.001 * cell.run_index


def wavering(cell: Cell) -> float | None:
    """Nobody can tell."""
    return 1.0 if cell.version_slug == "baseline" else (0.4, 2.1)[cell.run_index % 2] + 0.001 * cell.run_index


def without(fate: Fate, cell_id: str, instead: float | None = None) -> Fate:
    """As `fate`, but one cell failed (0) or did not run (None)."""
    return lambda cell: instead if cell.cell_id == cell_id else fate(cell)


def up_to(fate: Fate, run: int) -> Fate:
    """As `fate`, but only the first runs were measured."""
    return lambda cell: fate(cell) if cell.run_index <= run else None


def plan(root: Path, *, campaign_id: str = "c", candidates: tuple[str, ...] = (), runs: int = 8,
         looks: tuple[int, ...] = (), smoke: bool = False, created_at: str | None = None) -> Campaign:
    """A campaign's folder without any cell. Makes the workspace when it is not there."""
    if not (root / "versions").is_dir():
        make_small(root, candidates=candidates or ("faster",), duration_s=0.2)
    workspace = Workspace(root)
    request = CampaignRequest(runs=runs, looks=looks, candidates=candidates, campaign_id=campaign_id, seed=7,
                              smoke=smoke, required_modes=("native",))
    campaign = plan_campaign(workspace, request, wiring.make_load_tool, LocalTarget())
    campaign = replace(campaign, created_at=created_at or campaign.created_at)
    create_folder(workspace, campaign)
    return campaign


def fill(root: Path, campaign: Campaign, fate: Fate = passing) -> Campaign:
    """Writes the summary of every cell that ran."""
    folder = Workspace(root).campaign_folder(campaign.campaign_id)
    artifacts = built_artifacts(root, campaign)
    for cell in campaign.cells:
        factor = fate(cell)
        if factor is not None:
            artifact = artifacts[cell.version_slug, cell.platform_mode]
            store.save_summary(folder, summarised(campaign, cell, factor, artifact=artifact))
    return campaign


def summarised(campaign: Campaign, cell: Cell, factor: float, **changes: Any) -> CellSummary:
    """What a cell that was `factor` as slow measured; a factor of 0 means that it failed."""
    slow_ms = (20.0 + cell.run_index) * factor
    metrics: Mapping[str, float | None] = {
        "p95": slow_ms,
        "fail_rate": 0.0,
        "throughput": 1000.0 / slow_ms if factor else 0.0,
        "heap_peak": 1e7 + cell.run_index,
        "gc_pause": None,
    }
    outcome: dict[str, Any] = {"outcome": "passed", "metrics": metrics, "missing": NO_GC, "inapplicable": ("gc_pause",)}
    if not factor:
        outcome = {"outcome": "failed", "reason": "the service died", "metrics": dict.fromkeys(metrics)}
    identity = {"campaign_id": campaign.campaign_id, "run_index": cell.run_index, "version_slug": cell.version_slug,
                "platform_mode": cell.platform_mode, "attempt": 1, "benchmark_sha256": campaign.benchmark_sha256,
                "started_at": INSTANT, "finished_at": INSTANT, "smoke": campaign.smoke}
    return CellSummary(**{**identity, **outcome, **changes})


def built_artifacts(root: Path, campaign: Campaign) -> dict[tuple[str, str], dict[str, str]]:
    """Each version in each mode, built, as a cell records it."""
    workspace = Workspace(root)
    cache = ImageCache(workspace.versions_folder, ArtifactBuilder(workspace.versions_folder, LocalTarget()))
    found = {}
    for version in [store.load_version(workspace, slug) for slug in campaign.slugs]:
        for mode in campaign.platform_modes:
            built = cache.ensure(version, mode, root / "build.log")
            found[version.slug, mode] = {"fingerprint": built.fingerprint, "ref": built.image.ref, "id": built.image.id}
    return found
