"""Files and folders to and from a real host: whole or not there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hosting import LabHost

from pytest_staging import durable
from pytest_staging.model.errors import RemoteFailed, StorageError, UnsafeName, WorkspaceError
from pytest_staging.ssh.connection import SshConnection
from pytest_staging.ssh.files import get_file, get_tree, put_file, put_tree

NAMES = ["a b", "it's", "$HOME", "-n", "*", "ä☃", ".hidden", "deep/er/x"]


def make_tree(folder: Path) -> Path:
    for name in NAMES:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (folder / "program").write_text("#!/bin/sh\n")
    (folder / "program").chmod(0o755)
    (folder / "empty").mkdir()
    (folder / "link").symlink_to("a b")
    (folder / "dangling").symlink_to("nowhere/at all")
    (folder / "link to folder").symlink_to("deep")
    return folder


def test_file_goes_and_comes_back(connection: SshConnection, host: LabHost, tmp_path: Path) -> None:
    """Contents, mode, a new folder above it; the former file is replaced."""
    local, back = tmp_path / "local", tmp_path / "x" / "back"
    for content in (os.urandom(3_000_000), b"", b"short"):
        local.write_bytes(content)
        local.chmod(0o750)
        put_file(connection, local, "/tmp/files/it's $x", deadline_s=30)
        get_file(connection, "/tmp/files/it's $x", back, deadline_s=30)
        assert back.read_bytes() == content
    assert host.sh('stat -c %a "/tmp/files/it\'s \\$x"; ls -A /tmp/files') == "750\nit's $x"
    put_file(connection, local, "/tmp/files/it's $x", mode=0o600, deadline_s=30)
    assert host.sh('stat -c %a "/tmp/files/it\'s \\$x"') == "600"


def test_missing_file_leaves_nothing(connection: SshConnection, tmp_path: Path) -> None:
    with pytest.raises(RemoteFailed, match=r"lab .*: reading /no/such ended with status 1: .*No such file"):
        get_file(connection, "/no/such", tmp_path / "here" / "got", deadline_s=10)
    assert list((tmp_path / "here").iterdir()) == []
    with pytest.raises(StorageError, match=f"cannot read {tmp_path}/none"):
        put_file(connection, tmp_path / "none", "/tmp/x", deadline_s=10)


def test_file_that_cannot_lie_there_is_told(connection: SshConnection, host: LabHost, tmp_path: Path) -> None:
    (tmp_path / "local").write_text("x")
    host.sh("touch /tmp/plain")
    with pytest.raises(RemoteFailed, match=r"writing /tmp/plain/x ended with status 1: .*(Not a dir|exists)"):
        put_file(connection, tmp_path / "local", "/tmp/plain/x", deadline_s=10)


def test_local_disk_that_is_full_is_told(connection: SshConnection) -> None:
    """SM-07: a fetched log that cannot be written is an error that names the path here."""
    with pytest.raises(StorageError, match="/dev/full"):
        put_file(connection, Path("/dev/full/x"), "/tmp/x", deadline_s=10)


def test_tree_goes_and_comes_back(connection: SshConnection, host: LabHost, tmp_path: Path) -> None:
    """Names, modes, links and empty folders."""
    tree = make_tree(tmp_path / "tree")
    connection.run(["rm", "-rf", "/tmp/trees"], deadline_s=10)
    put_tree(connection, tree, "/tmp/trees/new one", deadline_s=30)
    get_tree(connection, "/tmp/trees/new one", tmp_path / "back", deadline_s=30)
    assert durable.fingerprint_tree(tmp_path / "back") == durable.fingerprint_tree(tree)
    assert (tmp_path / "back" / "empty").is_dir()
    assert os.readlink(tmp_path / "back" / "dangling") == "nowhere/at all"
    with pytest.raises(RemoteFailed, match="/tmp/trees/new one exists already"):
        put_tree(connection, tree, "/tmp/trees/new one", deadline_s=30)
    with pytest.raises(WorkspaceError, match="back exists already"):
        get_tree(connection, "/tmp/trees/new one", tmp_path / "back", deadline_s=30)
    assert host.sh("ls -A /tmp/trees") == "new one"


def test_tree_that_is_not_there(connection: SshConnection, tmp_path: Path) -> None:
    with pytest.raises(RemoteFailed, match="reading /no/such"):
        get_tree(connection, "/no/such", tmp_path / "back", deadline_s=30)
    with pytest.raises(WorkspaceError, match="is no folder"):
        put_tree(connection, tmp_path / "none", "/tmp/trees/none", deadline_s=30)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home"]


@pytest.mark.parametrize("remote", ["", "/", ".", "..", "/tmp/../x", "a/..", "-rf", "/tmp/a\nb", "/tmp/\x1b[0m"])
def test_unsafe_paths_are_refused(connection: SshConnection, tmp_path: Path, remote: str) -> None:
    (tmp_path / "local").write_text("x")
    with pytest.raises(UnsafeName):
        put_file(connection, tmp_path / "local", remote, deadline_s=10)
    with pytest.raises(UnsafeName):
        put_tree(connection, tmp_path, remote, deadline_s=10)
    assert connection.times_dialled == 0


def test_unsafe_names_in_a_tree_are_refused(connection: SshConnection, tmp_path: Path) -> None:
    for name in ("line\nbreak", "back\\slash", os.fsdecode(b"broken\xff")):
        folder = tmp_path / "tree"
        folder.mkdir()
        (folder / name).write_text("x")
        with pytest.raises(UnsafeName, match="rename it"):
            put_tree(connection, folder, "/tmp/trees/unsafe", deadline_s=10)
        (folder / name).unlink()
        os.mkfifo(folder / "pipe")
        with pytest.raises(WorkspaceError, match=r"tree/pipe is a pipe, socket or device"):
            put_tree(connection, folder, "/tmp/trees/unsafe", deadline_s=10)
        (folder / "pipe").unlink()
        folder.rmdir()
