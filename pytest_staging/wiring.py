"""The only place that chooses adapters: a name-to-import table. Nothing is imported before it is chosen."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from pytest_staging import store
from pytest_staging.campaign.planning import load_pinned_benchmark
from pytest_staging.campaign.runner import CellRunner
from pytest_staging.images import ArtifactCache
from pytest_staging.model.campaign import Campaign
from pytest_staging.model.errors import UsageProblem
from pytest_staging.model.ports import LoadTool, MetricSource, PhaseListener, Target
from pytest_staging.store import Workspace

TARGETS = {"local": "pytest_staging.targets.local:LocalTarget"}
LOAD_TOOLS = {"locust": "pytest_staging.loadtools.locust:LocustTool"}
METRIC_SOURCES = {"service": "pytest_staging.metrics.prometheus:ServiceMetrics"}


def make_target(name: str) -> Target:
    """Raises UsageProblem naming the known targets."""
    return cast(Target, _load(TARGETS, "--staging-target", name)())


def make_load_tool(name: str) -> LoadTool:
    """Raises UsageProblem naming the known tools."""
    return cast(LoadTool, _load(LOAD_TOOLS, "load.tool", name)())


def make_artifacts(workspace: Workspace, target: Target) -> ArtifactCache:
    """The cache of what `target` builds."""
    return ArtifactCache(workspace.versions_folder, target)


def make_runner(workspace: Workspace, campaign: Campaign, folder: Path, on_phase: PhaseListener) -> CellRunner:
    """Everything a cell needs, from the campaign's own pins."""
    target = make_target(campaign.target)
    benchmark = load_pinned_benchmark(folder, campaign)
    return CellRunner(
        campaign=campaign,
        benchmark=benchmark,
        benchmark_folder=folder / "benchmark",
        campaign_folder=folder,
        load_version=lambda slug: store.load_version(workspace, slug),
        target=target,
        tool=make_load_tool(benchmark.load.tool),
        source=cast(MetricSource, _load(METRIC_SOURCES, "metric source", "service")()),
        artifacts=make_artifacts(workspace, target),
        on_phase=on_phase,
    )


def _load(table: dict[str, str], what: str, name: str) -> Callable[[], Any]:
    if name not in table:
        near = difflib.get_close_matches(name, table, 1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise UsageProblem(f"{what}: {name!r} is not known. {hint}Known: {', '.join(table)}.")
    module, _, attribute = table[name].partition(":")
    return cast(Callable[[], Any], getattr(import_module(module), attribute))
