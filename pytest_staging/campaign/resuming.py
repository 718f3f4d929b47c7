"""Going on with a campaign that was cut off: only when everything it pinned is still as it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_staging import durable, store
from pytest_staging.campaign.planning import load_pinned_benchmark
from pytest_staging.model.campaign import Campaign
from pytest_staging.model.errors import PinChanged, WorkspaceError
from pytest_staging.model.ports import LoadTool
from pytest_staging.store import Workspace


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the user gave beside --staging-resume; None where nothing was given."""

    runs: str | None = None
    seed: int | None = None
    order: str | None = None
    baseline: str | None = None
    candidates: Sequence[str] = ()
    benchmark_path: Path | None = None
    smoke: bool = False
    campaign_id: str | None = None
    target: str | None = None


def resume_campaign(
    workspace: Workspace, campaign_id: str, asked: Asked, tool_for: Callable[[str], LoadTool]
) -> Campaign:
    """The campaign as it was planned. Raises PinChanged naming everything that differs, WorkspaceError when unknown."""
    folder = workspace.campaign_folder(campaign_id)
    if not (folder / "campaign.json").is_file():
        known = sorted(path.parent.name for path in workspace.campaigns_folder.glob("*/campaign.json"))
        shown = ", ".join(known[-5:]) or "none"
        raise WorkspaceError(f"there is no campaign {campaign_id!r} to resume. Known: {shown}.")
    campaign = store.load_campaign(folder)
    load_pinned_benchmark(folder, campaign)
    differences = [*_matrix_differences(campaign, asked), *_file_differences(workspace, campaign, asked)]
    tool = tool_for(campaign.load_tool["name"])
    if tool.version() != campaign.load_tool["version"]:
        differences.append(f"{tool.name} is {tool.version()}, the campaign uses {campaign.load_tool['version']}")
    if differences:
        lines = "\n".join(f"  {line}" for line in differences)
        raise PinChanged(f"campaign {campaign_id} cannot be resumed:\n{lines}\nUndo that, or start a new campaign.")
    return campaign


def _matrix_differences(campaign: Campaign, asked: Asked) -> list[str]:
    planned = {
        "--runs": "auto" if campaign.looks else str(campaign.runs),
        "--staging-seed": campaign.seed,
        "--staging-order": campaign.order,
        "--baseline": campaign.baseline_slug,
        "--candidate": list(campaign.candidate_slugs),
        "--campaign-id": campaign.campaign_id,
        "--staging-target": campaign.target,
    }
    given = {
        "--runs": asked.runs,
        "--staging-seed": asked.seed,
        "--staging-order": asked.order,
        "--baseline": asked.baseline,
        "--candidate": list(asked.candidates) or None,
        "--campaign-id": asked.campaign_id,
        "--staging-target": asked.target,
    }
    found = [
        f"{flag} {_shown(value)}: the campaign has {_shown(planned[flag])}"
        for flag, value in given.items()
        if value is not None and value != planned[flag]
    ]
    if asked.smoke and not campaign.smoke:
        found.append("--staging-smoke: the campaign is no smoke campaign")
    return found


def _file_differences(workspace: Workspace, campaign: Campaign, asked: Asked) -> list[str]:
    found = []
    path = asked.benchmark_path or workspace.root / campaign.benchmark_path
    for name, pinned in {path.name: campaign.benchmark_sha256, **campaign.benchmark_files}.items():
        file = path.parent / name
        if not file.is_file():
            found.append(f"{workspace.shown(file)} is gone")
        elif durable.hash_file(file) != pinned:
            found.append(f"{workspace.shown(file)} changed")
    for name, pinned in campaign.target_files.items():
        file = workspace.root / name
        if not file.is_file() or durable.hash_file(file) != pinned:
            found.append(f"{name} {'changed' if file.is_file() else 'is gone'}")
    for slug, pinned in campaign.versions.items():
        if store.load_version(workspace, slug).snapshot_fingerprint != pinned:
            found.append(f"{workspace.shown(workspace.snapshot(slug))} changed")
    return found


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
