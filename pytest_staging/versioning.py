"""Making a version on disk: whole, or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from pytest_staging import durable, lineage, store
from pytest_staging.model.errors import WorkspaceError
from pytest_staging.model.names import require_safe
from pytest_staging.model.version import VersionMetadata
from pytest_staging.store import Workspace


@dataclass(frozen=True)
class CreatedVersion:
    """A version that was just made, and where."""

    folder: Path
    metadata: VersionMetadata


def create_version(
    workspace: Workspace,
    slug: str,
    source: str,
    *,
    notes: str | None = None,
    source_commit: str | None = None,
    dry_run: bool = False,
) -> CreatedVersion:
    """Copies the source's snapshot, or makes a scaffold. Raises UsageProblem; nothing is left behind when it fails.

    With `dry_run` everything is checked and nothing is written.
    """
    require_safe("--slug", slug)
    kind, named = lineage.parse_source(source)
    parent = store.find_baseline(workspace) if kind == "baseline" else named
    folder = workspace.version_folder(slug)
    if folder.exists():
        raise WorkspaceError(f"version {slug!r} exists already at {folder}. Choose another slug.")
    created_at = datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
    metadata = lineage.new_metadata(slug, parent, created_at, notes, source_commit)
    snapshot = None if parent is None else _require_snapshot(workspace, parent)
    if dry_run:
        return CreatedVersion(folder, metadata)
    with durable.new_folder(folder) as fresh:
        if snapshot is None:
            durable.write_text(fresh / "snapshot" / "service.yaml", lineage.SCAFFOLD_SERVICE)
        else:
            durable.copy_tree(snapshot, fresh / "snapshot")
        durable.write_text(fresh / "version.yaml", store.render_metadata(metadata))
        durable.write_text(fresh / "hypothesis.md", lineage.render_hypothesis(slug, parent))
    return CreatedVersion(folder, metadata)


def _require_snapshot(workspace: Workspace, parent: str) -> Path:
    store.load_metadata(workspace, parent)
    snapshot = workspace.snapshot(parent)
    if not snapshot.is_dir():
        raise WorkspaceError(f"version {parent!r} has no snapshot at {snapshot}.")
    if link := durable.escaping_link(snapshot):
        raise WorkspaceError(f"{snapshot}/{link} is a link that leaves the snapshot. Copy the file in, then try again.")
    return snapshot
