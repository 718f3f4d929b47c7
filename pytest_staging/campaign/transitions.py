"""Changing versions' states on disk: several files as one transaction.

Write-ahead: the new content of every file goes into one intent file, which appears whole by a rename. From that instant
the change has happened; the files are then replaced one by one and the intent is removed. Whoever comes next after a
crash finds the intent and finishes the work, so that there is exactly one baseline at any instant.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from pytest_staging import contract, durable, lineage, promotion, store
from pytest_staging.campaign.evidence import ImagesOf, gather_evidence
from pytest_staging.model.errors import ContractError, StorageError, WorkspaceError
from pytest_staging.model.version import Status, VersionMetadata
from pytest_staging.promotion import Evidence, Override
from pytest_staging.store import Workspace

LOCK_TIMEOUT_S = 30.0
INTENT = ".intent.json"
LOCK = ".lock"


@dataclass(frozen=True)
class Change:
    """One version before and after."""

    before: VersionMetadata
    after: VersionMetadata

    def __str__(self) -> str:
        return f"{self.before.slug}: {self.before.status.value} -> {self.after.status.value}"


@contextmanager
def settled(workspace: Workspace, changing: bool = True) -> Iterator[None]:
    """Nobody changes versions meanwhile, and what a killed process began is finished. Raises StorageError."""
    from filelock import FileLock, Timeout

    folder = workspace.versions_folder
    untouched = not (folder / LOCK).exists() and not (folder / INTENT).exists()
    if not folder.is_dir() or not os.access(folder, os.W_OK) or (untouched and not changing):
        # Nothing was or can be changed here, so there is nothing to settle, and a reader leaves no trace.
        yield
        return
    lock = FileLock(str(folder / LOCK))
    with durable.storing(folder):
        try:
            lock.acquire(timeout=LOCK_TIMEOUT_S, poll_interval=0.02)
        except Timeout as error:  # inside, because it is an OSError too
            raise StorageError(
                f"{folder} is locked for over {LOCK_TIMEOUT_S:g} s by another command. Try again."
            ) from error
    try:
        _recover(workspace)
        yield
    finally:
        lock.release()


def nominate(workspace: Workspace, slug: str, dry_run: bool = False) -> list[Change]:
    """staging -> candidate."""
    with settled(workspace):
        before = store.load_metadata(workspace, slug)
        return _commit(workspace, [Change(before, promotion.plan_nomination(before))], dry_run)


def reject(
    workspace: Workspace, slug: str, campaign_id: str | None, why: str | None, dry_run: bool = False,
    images_of: ImagesOf | None = None,
) -> list[Change]:  # fmt: skip
    """staging or candidate -> rejected."""
    with settled(workspace):
        before = store.load_metadata(workspace, slug)
        evidence = gather_evidence(workspace, slug, campaign_id, images_of) if campaign_id else None
        after = promotion.plan_rejection(before, _now(), evidence, why)
        return _commit(workspace, [Change(before, after)], dry_run)


def promote(
    workspace: Workspace, slug: str, campaign_id: str, images_of: ImagesOf, override: Override | None = None,
    dry_run: bool = False,
) -> tuple[list[Change], Evidence]:  # fmt: skip
    """candidate -> baseline, and the old baseline -> archived-baseline, together. Raises PromotionRefused."""
    with settled(workspace):
        candidate = store.load_metadata(workspace, slug)
        baseline = store.load_metadata(workspace, store.find_baseline(workspace))
        promotion.check_transition(candidate, Status.BASELINE)
        evidence = gather_evidence(workspace, slug, campaign_id, images_of)
        promoted, archived = promotion.plan_promotion(candidate, baseline, evidence, _now(), override)
        changes = [Change(baseline, archived), Change(candidate, promoted)]
        return _commit(workspace, changes, dry_run), evidence


def rollback(workspace: Workspace, why: str | None, dry_run: bool = False) -> list[Change]:
    """The archived baseline that the present one replaced comes back."""
    with settled(workspace):
        versions = {one.slug: one for one in store.load_all_metadata(workspace)}
        baseline = versions[store.find_baseline(workspace)]
        restored, gone = promotion.plan_rollback(baseline, versions, _now(), why)
        return _commit(workspace, [Change(baseline, gone), Change(versions[restored.slug], restored)], dry_run)


def _commit(workspace: Workspace, changes: Sequence[Change], dry_run: bool) -> list[Change]:
    if not dry_run:
        writes = {change.after.slug: _new_text(workspace, change.after) for change in changes}
        durable.write_text(workspace.versions_folder / INTENT, json.dumps({"writes": writes}))
        _apply(workspace, writes)
    return list(changes)


def _apply(workspace: Workspace, writes: dict[str, str]) -> None:
    """May be cut off anywhere and done again: each write gives the same content."""
    for slug, text in writes.items():
        durable.write_text(workspace.version_folder(slug) / "version.yaml", text)
    durable.remove(workspace.versions_folder / INTENT)


def _recover(workspace: Workspace) -> None:
    path = workspace.versions_folder / INTENT
    if path.is_file():
        _apply(workspace, _read_intent(workspace, path))
    for leftover in _leftovers(workspace.versions_folder):
        leftover.unlink(missing_ok=True)


def _read_intent(workspace: Workspace, path: Path) -> dict[str, str]:
    """What is to be written, checked as a whole before anything is."""
    advice = "Look at it, and remove it when it is not needed."
    try:
        raw = store.read_json(path, "intent")
    except WorkspaceError as error:
        raise WorkspaceError(f"{error}. {advice}") from error
    writes = raw.get("writes") if isinstance(raw, dict) else None
    if not isinstance(writes, dict) or not all(isinstance(text, str) for text in writes.values()):
        raise WorkspaceError(f"{path} is no intent of this program. {advice}")
    for slug, text in writes.items():
        contract.parse_version(text, f"{path}: {slug}", folder=slug)
        if slug not in store.version_slugs(workspace):
            raise WorkspaceError(f"{path} is about {slug!r}, and there is no such version. {advice}")
    return writes


def _leftovers(folder: Path) -> list[Path]:
    """Half-written files of a killed command. Hidden folders are versions that are being made just now."""
    visible = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return [*folder.glob(f".{INTENT}.*.tmp"), *(one for path in visible for one in path.glob(".version.yaml.*.tmp"))]


def _new_text(workspace: Workspace, metadata: VersionMetadata) -> str:
    """The file with only what changed changed, comments kept; written anew where that cannot be done safely."""
    path: Path = workspace.version_folder(metadata.slug) / "version.yaml"
    fields = store.metadata_fields(metadata)
    edited = lineage.edit_metadata(path.read_text(encoding="utf-8"), fields)
    try:
        same = contract.parse_version(edited, str(path), folder=metadata.slug) == metadata
    except ContractError:
        same = False
    return edited if same else store.render_metadata(metadata)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
