"""The rules of a version's life, as pure functions: which transitions exist, and what evidence a promotion needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pytest_staging.model.errors import PromotionRefused
from pytest_staging.model.version import Status, VersionMetadata

TRANSITIONS: Mapping[Status, tuple[Status, ...]] = {
    Status.STAGING: (Status.CANDIDATE, Status.REJECTED),
    Status.CANDIDATE: (Status.BASELINE, Status.REJECTED),
    Status.BASELINE: (Status.ARCHIVED_BASELINE,),
    Status.REJECTED: (),
    Status.ARCHIVED_BASELINE: (),
}
PASS = "pass"


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a campaign proves about one candidate, and everything that takes from it."""

    campaign_id: str
    verdict: str
    reason: str
    campaign_baseline: str
    smoke: bool = False
    cells_missing: int = 0
    cells_planned: int = 0
    changed: tuple[str, ...] = ()
    superseded_by: str | None = None
    policy: tuple[str, ...] = ()


@dataclass(frozen=True)
class Override:
    """The operator's own word against the evidence; it stays in version.yaml for ever."""

    why: str


def check_transition(metadata: VersionMetadata, target: Status) -> None:
    """Raises PromotionRefused naming the transitions that are allowed."""
    allowed = TRANSITIONS[metadata.status]
    if target not in allowed:
        names = ", ".join(status.value for status in allowed) or "none"
        raise PromotionRefused(
            f"{metadata.slug} is {metadata.status.value} and cannot become {target.value}. "
            f"Allowed from {metadata.status.value}: {names}."
        )


def find_refusals(evidence: Evidence, baseline_slug: str) -> list[str]:
    """Every reason why the evidence does not carry a promotion; empty when it does."""
    found = []
    if evidence.smoke:
        found.append("it is a smoke campaign")
    if evidence.campaign_baseline != baseline_slug:
        found.append(f"it compared with {evidence.campaign_baseline}, and the baseline is {baseline_slug} now")
    if evidence.cells_missing:
        found.append(
            f"it is not complete: {evidence.cells_missing} of {evidence.cells_planned} cells have no passed result"
        )
    found += [f"{what} is not what was measured" for what in evidence.changed]
    if evidence.superseded_by:
        found.append(f"a later campaign of the same versions stands: {evidence.superseded_by}")
    found += evidence.policy
    if evidence.verdict != PASS:
        found.append(f"its verdict is {evidence.verdict} ({evidence.reason})")
    return found


def plan_nomination(metadata: VersionMetadata) -> VersionMetadata:
    """staging -> candidate."""
    check_transition(metadata, Status.CANDIDATE)
    return replace(metadata, status=Status.CANDIDATE)


def plan_rejection(metadata: VersionMetadata, now: str, evidence: Evidence | None, why: str | None) -> VersionMetadata:
    """staging or candidate -> rejected; the campaign that showed it stays with the version."""
    check_transition(metadata, Status.REJECTED)
    changed = replace(metadata, status=Status.REJECTED, rejected_at=now, notes=_noted(metadata.notes, why))
    if evidence is None:
        return changed
    return replace(changed, campaign_id=evidence.campaign_id, verdict=evidence.verdict)


def plan_promotion(
    candidate: VersionMetadata, baseline: VersionMetadata, evidence: Evidence, now: str, override: Override | None
) -> tuple[VersionMetadata, VersionMetadata]:
    """(new baseline, archived one). Raises PromotionRefused with every reason, unless `override` is given."""
    check_transition(candidate, Status.BASELINE)
    refusals = find_refusals(evidence, baseline.slug)
    if refusals and override is None:
        lines = "\n".join(f"  - {line}" for line in refusals)
        raise PromotionRefused(
            f"campaign {evidence.campaign_id} does not allow {candidate.slug} to become the baseline:\n{lines}\n"
            "Run a new campaign, or take the responsibility: --override --why TEXT (recorded for ever)."
        )
    why = candidate.override_why
    if refusals and override is not None:
        why = (*why, f"{now} campaign {evidence.campaign_id}: {override.why} (against: {'; '.join(refusals)})")
    promoted = replace(
        candidate,
        status=Status.BASELINE,
        campaign_id=evidence.campaign_id,
        verdict=evidence.verdict,
        promoted_at=now,
        replaced=baseline.slug,
        override_why=why,
    )
    return promoted, replace(baseline, status=Status.ARCHIVED_BASELINE, archived_at=now)


def plan_rollback(
    baseline: VersionMetadata, versions: Mapping[str, VersionMetadata], now: str, why: str | None
) -> tuple[VersionMetadata, VersionMetadata]:
    """(restored baseline, rejected one): the version that the present baseline replaced comes back."""
    if baseline.replaced is None:
        raise PromotionRefused(f"{baseline.slug} replaced no other version, so there is nothing to roll back to.")
    archived = versions.get(baseline.replaced)
    if archived is None or archived.status is not Status.ARCHIVED_BASELINE:
        found = "gone" if archived is None else f"{archived.status.value}, not archived-baseline"
        raise PromotionRefused(f"{baseline.slug} replaced {baseline.replaced}, which is {found}.")
    restored = replace(archived, status=Status.BASELINE, archived_at=None)
    gone = replace(baseline, status=Status.REJECTED, rejected_at=now, notes=_noted(baseline.notes, why))
    return restored, gone


def _noted(notes: str | None, why: str | None) -> str | None:
    return notes if not why else why if not notes else f"{notes} / {why}"
