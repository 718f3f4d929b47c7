"""create-version: whole, or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from workspaces import make_version, make_workspace

from pytest_staging import durable, lineage, store, versioning
from pytest_staging.model.errors import StagingError, StorageError, UnsafeName, UsageProblem, WorkspaceError
from pytest_staging.model.version import Status
from pytest_staging.store import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(make_workspace(tmp_path))


def listing(workspace: Workspace) -> list[str]:
    return sorted(str(path.relative_to(workspace.root)) for path in workspace.versions_folder.rglob("*"))


@pytest.mark.parametrize(
    ("source", "parent"), [("baseline", "baseline"), ("version:faster", "faster"), ("version:baseline", "baseline")]
)
def test_from_another_version(workspace: Workspace, source: str, parent: str) -> None:
    """SM-03: copies the snapshot; status staging, kind generic-service, parent recorded."""
    (workspace.snapshot(parent) / "tool.sh").write_text("#!/bin/sh\n")
    (workspace.snapshot(parent) / "tool.sh").chmod(0o755)
    (workspace.snapshot(parent) / "link").symlink_to("tool.sh")
    made = versioning.create_version(workspace, "pool-v2", source, notes="why", source_commit="abc")
    assert made.folder == workspace.version_folder("pool-v2")
    metadata = store.load_metadata(workspace, "pool-v2")
    assert metadata == made.metadata
    assert (metadata.status, metadata.kind, metadata.parent) == (Status.STAGING, "generic-service", parent)
    assert (metadata.notes, metadata.source_commit) == ("why", "abc")
    copy, original = workspace.snapshot("pool-v2"), workspace.snapshot(parent)
    assert durable.fingerprint_tree(copy) == durable.fingerprint_tree(original)
    assert (workspace.snapshot("pool-v2") / "link").is_symlink()
    assert store.load_version(workspace, "pool-v2").service == store.load_version(workspace, parent).service
    assert not (made.folder / "images").exists(), "what the parent was built into is not copied"


def test_a_scaffold(workspace: Workspace) -> None:
    """SM-03: `none` makes an empty scaffold, whose service.yaml is valid."""
    made = versioning.create_version(workspace, "fresh", "none")
    assert made.metadata.parent is None
    assert set(store.load_version(workspace, "fresh").service.modes) == {"jvm", "native"}
    assert sorted(path.name for path in made.folder.iterdir()) == ["hypothesis.md", "snapshot", "version.yaml"]


@pytest.mark.parametrize("source", ["baseline", "none"])
def test_the_hypothesis(workspace: Workspace, source: str) -> None:
    """SM-03: hypothesis.md has its five headings, in order."""
    made = versioning.create_version(workspace, "pool-v2", source)
    text = (made.folder / "hypothesis.md").read_text()
    headings = [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]
    assert headings == ["Context", "Differences from parent", "Hypotheses", "Risks", "Expected impact"]
    assert text.startswith("# pool-v2\n")
    assert "`baseline`" in text if source == "baseline" else "no parent" in text


def test_an_existing_slug(workspace: Workspace) -> None:
    """SM-03: an existing version is never touched."""
    before = listing(workspace)
    with pytest.raises(WorkspaceError, match=r"version 'faster' exists already at .*Choose another slug"):
        versioning.create_version(workspace, "faster", "baseline")
    assert listing(workspace) == before


@pytest.mark.parametrize(
    ("slug", "source", "error", "message"),
    [
        ("pool", "version:fastr", WorkspaceError, r"no version 'fastr'.*Did you mean 'faster'\?"),
        ("pool", "version:", UsageProblem, "write baseline, none, or version:SLUG"),
        ("pool", "faster", UsageProblem, "write baseline, none, or version:SLUG"),
        ("pool", "version:../x", UnsafeName, r"version '\.\./x'"),
        ("../pool", "baseline", UnsafeName, r"--slug '\.\./pool' starts with '\.'"),
        ("", "baseline", UnsafeName, "--slug '' is empty"),
        ("a" * 101, "baseline", UnsafeName, "has 101 characters"),
    ],
)
def test_bad_requests(workspace: Workspace, slug: str, source: str, error: type[StagingError], message: str) -> None:
    """SM-03: refused with the reason, and nothing is made."""
    before = listing(workspace)
    with pytest.raises(error, match=message) as caught:
        versioning.create_version(workspace, slug, source)
    assert caught.value.exit_code == 2
    assert listing(workspace) == before


def test_no_baseline(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    make_version(tmp_path, "faster", "candidate")
    with pytest.raises(WorkspaceError, match="has status baseline"):
        versioning.create_version(workspace, "pool", "baseline")


def test_a_parent_without_a_snapshot(workspace: Workspace) -> None:
    workspace.snapshot("faster").rename(workspace.root / "gone")
    with pytest.raises(WorkspaceError, match="version 'faster' has no snapshot"):
        versioning.create_version(workspace, "pool", "version:faster")
    assert store.version_slugs(workspace) == ["baseline", "faster"]


def test_an_escaping_link(workspace: Workspace) -> None:
    """SM-03: a symlink in the source that leaves the snapshot is refused."""
    (workspace.snapshot("faster") / "data").symlink_to("../../../benchmark")
    before = listing(workspace)
    with pytest.raises(WorkspaceError, match=r"snapshot/data is a link that leaves the snapshot"):
        versioning.create_version(workspace, "pool", "version:faster")
    assert listing(workspace) == before


def test_a_pipe_in_the_source(workspace: Workspace) -> None:
    """SM-03: what cannot be copied is an error, not a hang, and leaves nothing."""
    os.mkfifo(workspace.snapshot("faster") / "pipe")
    before = listing(workspace)
    with pytest.raises(StorageError, match="pipe"):
        versioning.create_version(workspace, "pool", "version:faster")
    assert listing(workspace) == before


@pytest.mark.parametrize("failing", range(1, 4))
def test_it_fails_half_way(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, failing: int) -> None:
    """SM-03: nothing is left behind, whichever rename fails: version.yaml, hypothesis.md, or the folder itself."""
    calls = 0

    def failing_rename(original: object) -> object:
        def rename(source: object, target: object) -> None:
            nonlocal calls
            calls += 1
            if calls == failing:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            original(source, target)  # type: ignore[operator]

        return rename

    before = listing(workspace)
    monkeypatch.setattr(os, "replace", failing_rename(os.replace))
    monkeypatch.setattr(os, "rename", failing_rename(os.rename))
    with pytest.raises(StorageError, match="The disk is full"):
        versioning.create_version(workspace, "pool", "version:faster")
    monkeypatch.undo()
    assert calls == failing
    assert listing(workspace) == before
    versioning.create_version(workspace, "pool", "version:faster")


def test_the_scaffold_names_every_section_once() -> None:
    """SM-03: the headings come from one place."""
    text = lineage.render_hypothesis("a", None)
    assert all(text.count(f"## {section}\n") == 1 for section in lineage.HYPOTHESIS_SECTIONS)


def test_a_dry_run_checks_everything_and_makes_nothing(workspace: Workspace) -> None:
    """SM-03: it says what would be made, refuses what the real run would refuse, and leaves the workspace as it was."""
    before = listing(workspace)
    planned = versioning.create_version(workspace, "planned", "baseline", dry_run=True)
    assert planned.metadata.parent == "baseline"
    with pytest.raises(WorkspaceError):
        versioning.create_version(workspace, "baseline", "none", dry_run=True)
    with pytest.raises(WorkspaceError):
        versioning.create_version(workspace, "planned", "version:nobody", dry_run=True)
    assert listing(workspace) == before
