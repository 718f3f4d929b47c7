"""A folder kept equal on a real host: only what changed goes, and what has the name is whole."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from hosting import LabHost
from test_ssh_files import make_tree

from pytest_staging import durable
from pytest_staging.model.errors import RemoteFailed, UnsafeName
from pytest_staging.ssh import sync
from pytest_staging.ssh.connection import SshConnection
from pytest_staging.ssh.files import get_tree
from pytest_staging.ssh.sync import Synced, sync_tree

FOLDER = "/tmp/synced/a tree"


@pytest.fixture
def tree(tmp_path: Path, host: LabHost) -> Path:
    host.sh("rm -rf /tmp/synced")
    return make_tree(tmp_path / "tree")


def same(connection: SshConnection, tree: Path, tmp_path: Path) -> bool:
    """Fetched and compared by the code that fingerprints snapshots."""
    shutil.rmtree(tmp_path / "back", ignore_errors=True)
    get_tree(connection, FOLDER, tmp_path / "back", deadline_s=30)
    folders = [sorted(str(path.relative_to(root)) for path in root.rglob("*")) for root in (tree, tmp_path / "back")]
    return folders[0] == folders[1] and durable.fingerprint_tree(tmp_path / "back") == durable.fingerprint_tree(tree)


def test_first_time_everything_goes_and_then_nothing(connection: SshConnection, tree: Path, tmp_path: Path) -> None:
    first = sync_tree(connection, tree, FOLDER, deadline_s=30)
    assert (first.whole, first.removed, first.sent) == (True, 0, 12)
    assert same(connection, tree, tmp_path)
    assert sync_tree(connection, tree, FOLDER, deadline_s=30) == Synced(sent=0, removed=0)


def test_only_what_changed_goes(connection: SshConnection, host: LabHost, tree: Path, tmp_path: Path) -> None:
    """Contents of the same size, an executable bit, a link's target, new and removed names; the rest stays."""
    sync_tree(connection, tree, FOLDER, deadline_s=30)
    inode = host.sh(f"stat -c %i '{FOLDER}/$HOME'")
    (tree / "a b").write_text("A B")
    (tree / "program").chmod(0o644)
    (tree / "link").unlink()
    (tree / "link").symlink_to("program")
    (tree / "-n").unlink()
    (tree / "new").mkdir()
    (tree / "new" / "file").write_text("new")
    assert sync_tree(connection, tree, FOLDER, deadline_s=30) == Synced(sent=5, removed=1)
    assert same(connection, tree, tmp_path)
    assert host.sh(f"stat -c %i '{FOLDER}/$HOME'") == inode
    assert host.sh("ls -A /tmp/synced") == "a tree"


def test_kinds_may_change(connection: SshConnection, tree: Path, tmp_path: Path) -> None:
    """A file becomes a folder, a folder a file, a link a folder, an empty folder goes."""
    sync_tree(connection, tree, FOLDER, deadline_s=30)
    for name in ("a b", "link to folder"):
        (tree / name).unlink()
        (tree / name).mkdir()
        (tree / name / "inside").write_text("x")
    shutil.rmtree(tree / "deep")
    (tree / "deep").write_text("now a file")
    (tree / "empty").rmdir()
    sync_tree(connection, tree, FOLDER, deadline_s=30)
    assert same(connection, tree, tmp_path)


def test_what_somebody_changed_on_the_host_is_mended(
    connection: SshConnection, host: LabHost, tree: Path, tmp_path: Path
) -> None:
    """What lies there counts, with the same size and time too; nothing that was remembered does."""
    sync_tree(connection, tree, FOLDER, deadline_s=30)
    host.sh(
        f"cd '{FOLDER}' && cp -p program /tmp/ref && printf '#!/bin/SH\\n' >program && touch -r /tmp/ref program && "
        "rm '*' && touch stray && mkfifo pipe && mkdir -p more/deep && ln -sf /etc/passwd link && chmod 600 .hidden"
    )
    assert not same(connection, tree, tmp_path)
    sync_tree(connection, tree, FOLDER, deadline_s=30)
    assert same(connection, tree, tmp_path)


def test_random_changes_end_equal(connection: SshConnection, tree: Path, tmp_path: Path) -> None:
    """Ten rounds of whatever may happen to a tree."""
    chance = random.Random(5)
    for _ in range(10):
        for _ in range(6):
            path = tree / chance.choice("abc") / chance.choice("abcde")
            parent = path.parent
            if parent.is_symlink() or parent.is_file() or (parent.exists() and chance.random() < 0.2):
                shutil.rmtree(parent) if parent.is_dir() and not parent.is_symlink() else parent.unlink()
            elif chance.random() < 0.1 and not parent.exists():
                parent.symlink_to(chance.choice(["a", "program"]))
            else:
                parent.mkdir(exist_ok=True)
                path.write_text(str(chance.random()))
                path.chmod(chance.choice([0o644, 0o755]))
        sync_tree(connection, tree, FOLDER, deadline_s=30)
        assert same(connection, tree, tmp_path)


def test_a_tree_that_changes_meanwhile_does_not_take_the_name(
    connection: SshConnection, tree: Path, monkeypatch: pytest.MonkeyPatch, host: LabHost
) -> None:
    """The copy is compared before it gets the folder's name."""
    sync_tree(connection, tree, FOLDER, deadline_s=30)
    (tree / "a b").write_text("second")
    manifest = sync.build_manifest(tree)
    monkeypatch.setattr(sync, "build_manifest", lambda local, is_needless: manifest)
    (tree / "a b").write_text("third")
    with pytest.raises(RemoteFailed, match="it is not what was sent"):
        sync_tree(connection, tree, FOLDER, deadline_s=30)
    assert host.sh(f"cat '{FOLDER}/a b'; ls -A /tmp/synced") == "a ba tree"


def test_a_stop_between_the_renames_is_mended(connection: SshConnection, host: LabHost, tree: Path) -> None:
    sync_tree(connection, tree, FOLDER, deadline_s=30)
    host.sh(f"cd /tmp/synced && mv '{FOLDER}' '.a tree.former' && mkdir '.a tree.sync' && touch '.a tree.sync/half'")
    assert sync_tree(connection, tree, FOLDER, deadline_s=30) == Synced(sent=0, removed=0)
    assert host.sh("ls -A /tmp/synced") == "a tree"


def test_only_folders_are_synced_into(connection: SshConnection, host: LabHost, tree: Path) -> None:
    host.sh("mkdir -p /tmp/synced/real; ln -s real /tmp/synced/link; touch /tmp/synced/file")
    for name in ("link", "file"):
        with pytest.raises(RemoteFailed, match=f"/tmp/synced/{name} is no folder"):
            sync_tree(connection, tree, f"/tmp/synced/{name}", deadline_s=30)
    with pytest.raises(UnsafeName):
        sync_tree(connection, tree, "/tmp/../etc", deadline_s=30)
