"""What a campaign's folder proves about a candidate. Computed from the cells, never read from the aggregate."""

from __future__ import annotations

import difflib
import json
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pytest_staging import store
from pytest_staging.campaign.comparing import build_aggregate
from pytest_staging.campaign.planning import load_pinned_benchmark
from pytest_staging.campaign.records import Journal
from pytest_staging.images.cache import ImageCache
from pytest_staging.model.campaign import Campaign, CellSummary
from pytest_staging.model.errors import EvidenceMissing, StagingError, WorkspaceError
from pytest_staging.model.record import CampaignRecord
from pytest_staging.model.version import Version
from pytest_staging.promotion import Evidence
from pytest_staging.store import Workspace
from pytest_staging.throughput.bundle import FOLDER, Bundle, judge_bundle, load_bundle
from pytest_staging.throughput.judging import Answer

NEAREST = 3
ImagesOf = Callable[[str], ImageCache | None]
"""The cache of what the target of that name runs from; None for one whose hosts keep that."""


def gather_evidence(workspace: Workspace, slug: str, campaign_id: str, images_of: ImagesOf | None = None) -> Evidence:
    """Raises WorkspaceError when the campaign is unknown or not about `slug`, PinChanged when its benchmark changed."""
    record = load_record(workspace, campaign_id)
    campaign, aggregate = record.campaign, record.aggregate
    if slug not in campaign.candidate_slugs:
        known = ", ".join(campaign.candidate_slugs)
        raise WorkspaceError(f"campaign {campaign_id} is not about {slug!r}; its candidates are {known}.")
    verdict = aggregate["candidates"][slug]
    return Evidence(
        campaign_id=campaign_id,
        verdict=verdict["verdict"],
        reason=verdict["reason"],
        campaign_baseline=campaign.baseline_slug,
        smoke=campaign.smoke,
        cells_missing=aggregate["cells_planned"] - aggregate["cells_passed"],
        cells_planned=aggregate["cells_planned"],
        changed=tuple(_changed(workspace, campaign, slug, record.summaries, images_of)),
        superseded_by=_superseding(workspace, campaign, slug),
        policy=tuple(_policy_refusals(workspace, record, slug)) if record.benchmark.policy_evidence else (),
    )


def load_record(workspace: Workspace, campaign_id: str) -> CampaignRecord:
    """The campaign and its results; the aggregate is computed anew. Raises WorkspaceError or PinChanged."""
    folder = require_campaign(workspace, campaign_id)
    campaign = store.load_campaign(folder)
    benchmark = load_pinned_benchmark(folder, campaign)
    summaries = Journal(folder, campaign).finished()
    aggregate = build_aggregate(campaign, benchmark, summaries)
    return CampaignRecord(
        folder=folder, campaign=campaign, benchmark=benchmark, summaries=summaries, aggregate=aggregate
    )


def require_campaign(workspace: Workspace, campaign_id: str) -> Path:
    """The campaign's folder. Raises WorkspaceError that names those that there are."""
    folder = workspace.campaign_folder(campaign_id)
    if not (folder / "campaign.json").is_file():
        raise WorkspaceError(
            f"there is no campaign {campaign_id!r} in {workspace.campaigns_folder}.{_nearest(workspace, campaign_id)}"
        )
    return folder


def _nearest(workspace: Workspace, campaign_id: str) -> str:
    """The campaigns whose names are like that one, else the latest ones."""
    known = sorted(path.parent.name for path in workspace.campaigns_folder.glob("*/campaign.json"))
    like = difflib.get_close_matches(campaign_id, known, NEAREST)
    if like:
        return f" Did you mean {', '.join(like)}?"
    return f" The latest are {', '.join(known[-NEAREST:])}." if known else " There is none at all yet."


def _policy_refusals(workspace: Workspace, record: CampaignRecord, slug: str) -> Iterator[str]:
    """Why the throughput policy's evidence, which the benchmark demands, does not carry the promotion."""
    root = [] if workspace.root == Path.cwd() else ["--root", str(workspace.root)]
    campaign_id = record.campaign.campaign_id
    collecting = shlex.join(
        ["staging-manager", *root, "evidence", "collect", "--campaign-id", campaign_id, "--replace"]
    )
    try:
        bundle = load_bundle(record.folder / FOLDER, collecting)
        finding = judge_bundle(bundle, (slug,))
    except EvidenceMissing as error:
        yield f"the benchmark demands the policy's evidence: {error}"
        return
    # Cells may have come since it was collected, and what is judged is what is there now.
    if bundle.campaign_id != campaign_id or _differs(bundle, record):
        yield f"the policy's evidence was collected from other results; collect it again: {collecting}"
        return
    if finding.answer is not Answer.ACCEPT:
        reasons = (*finding.breaches, *finding.regressions, *finding.missing, *finding.not_improved)
        yield f"the policy's evidence says {finding.answer.value}: {'; '.join(reasons)}"


def _differs(bundle: Bundle, record: CampaignRecord) -> bool:
    return bool(bundle.gathered.comparison != json.loads(json.dumps(record.aggregate)))


def _changed(
    workspace: Workspace, campaign: Campaign, slug: str, summaries: Sequence[CellSummary], images_of: ImagesOf | None
) -> Iterator[str]:
    cache = images_of(campaign.target) if images_of else None
    modes = campaign.platform_modes if images_of else ()
    for one in (campaign.baseline_slug, slug):
        try:
            version = store.load_version(workspace, one)
        except StagingError as error:
            yield f"version {one} ({error})"
            continue
        if version.snapshot_fingerprint != campaign.versions[one]:
            yield f"the snapshot of {one}"
            continue
        for mode in modes:
            passed = [cell for cell in summaries if cell.passed
                      and (cell.version_slug, cell.platform_mode) == (one, mode)]  # fmt: skip
            if why := _changed_image(cache, version, mode, passed):
                yield f"the build of {one} in mode {mode} ({why})"
    foreign = [cell for cell in summaries if cell.benchmark_sha256 != campaign.benchmark_sha256]
    if foreign:
        yield f"the benchmark of {len(foreign)} cells"


def _changed_image(cache: ImageCache | None, version: Version, mode: str, measured: list[CellSummary]) -> str | None:
    """Why what was measured is not what would run today, or None. Of what hosts hold: not the same all the time."""
    by_host: dict[Any, set[Any]] = {}
    for cell in measured:
        host = None if cache else cell.host.get("name")
        by_host.setdefault(host, set()).add((cell.artifact.get("fingerprint"), cell.artifact.get("id")))
    if any(len(found) > 1 for found in by_host.values()):
        return "it changed within the campaign"
    if not measured or cache is None:
        return None
    ((print_, identity),) = by_host[None]
    decision, image = cache.look_up(version, mode)
    if print_ != cache.fingerprint(version, mode):
        return "other compilers, commands or base images today"
    if image is None or identity != image.id:
        return "it was built anew since" if image else f"what was measured is not there: {decision.reason}"
    return None


def _superseding(workspace: Workspace, campaign: Campaign, slug: str) -> str | None:
    """A later campaign about the same pair that is complete, or that shows a regression already."""
    for path in sorted(workspace.campaigns_folder.glob("*/campaign.json"), reverse=True):
        other = store.load_campaign(path.parent)
        later = (other.created_at, other.campaign_id) > (campaign.created_at, campaign.campaign_id)
        same = other.baseline_slug == campaign.baseline_slug and slug in other.candidate_slugs
        if not later or not same or other.smoke or other.campaign_id == campaign.campaign_id:
            continue
        aggregate = load_record(workspace, other.campaign_id).aggregate
        if aggregate["complete"] or aggregate["candidates"][slug]["verdict"] == "regression":
            return other.campaign_id
    return None
