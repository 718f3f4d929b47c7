"""Files that are whole or not there, under injected and real failures, and digests of folders."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from workspaces import give_up, wait_for

from pytest_staging import durable
from pytest_staging.model.errors import StorageError, WorkspaceError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[Path]:
    """A small file system of its own at `folder`; needs root."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", ",".join(("size=64k", *options)), "staging-test", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except OSError as error:
        give_up(f"mount cannot be run: {error}")
    if done.returncode != 0:
        give_up(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True, timeout=10)


def test_writing_replaces_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "below" / "file.txt"
    durable.write_text(path, "a longer first text")
    durable.write_text(path, "second")
    assert path.read_text() == "second"
    assert path.stat().st_mode & 0o777 == 0o644
    assert names(path.parent) == ["file.txt"]


@pytest.mark.parametrize("function", ["replace", "fsync", "chmod"])
def test_a_failing_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str) -> None:
    """Whatever fails before the rename: the old content stands and no temporary file is left."""
    path = tmp_path / "file.txt"
    durable.write_text(path, "old")
    monkeypatch.setattr(os, function, _refuse(errno.EIO))
    with pytest.raises(StorageError, match=r"cannot write .*file\.txt: Input/output error"):
        durable.write_text(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C is no error of the file system and passes as it is, after the clean-up."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "file.txt"
    durable.write_text(path, "old")
    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        durable.write_text(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def _refuse(number: int) -> Callable[..., None]:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


def test_a_full_disk(tmp_path: Path) -> None:
    """A real full disk: the old file stands, nothing is left over, the message says what to do."""
    with mounted(tmp_path / "small") as folder:
        path = folder / "file.txt"
        durable.write_text(path, "old")
        with pytest.raises(StorageError, match=r"file\.txt: No space left on device\. The disk is full: free"):
            durable.write_bytes(path, b"x" * 200_000)
        assert path.read_text() == "old"
        assert names(folder) == ["file.txt"]
        source = tmp_path / "big"
        source.mkdir()
        (source / "blob").write_bytes(b"x" * 200_000)
        with pytest.raises(StorageError, match="No space left"), durable.new_folder(folder / "copy") as fresh:
            durable.copy_tree(source, fresh / "big")
        assert names(folder) == ["file.txt"]


def test_a_read_only_file_system(tmp_path: Path) -> None:
    with mounted(tmp_path / "fixed", "ro") as folder:
        with pytest.raises(StorageError, match=r"file\.txt: Read-only file system\. .*choose another folder"):
            durable.write_text(folder / "file.txt", "new")
        with pytest.raises(StorageError, match="Read-only"), durable.new_folder(folder / "new"):
            pytest.fail("the block must not run")


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write anywhere, so the kernel's answer is injected."""
    monkeypatch.setattr(durable.tempfile, "mkstemp", _refuse(errno.EACCES))
    with pytest.raises(StorageError, match=r"Permission denied\. No permission: check the owner and mode"):
        durable.write_text(tmp_path / "file.txt", "new")


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "versions").write_text("")
    with pytest.raises(StorageError, match=r"cannot write .*versions/a"):
        durable.write_text(tmp_path / "versions" / "a", "x")
    with pytest.raises(StorageError, match="cannot write"), durable.new_folder(tmp_path / "versions" / "b"):
        pytest.fail("the block must not run")


def test_a_new_folder_appears_at_the_end(tmp_path: Path) -> None:
    final = tmp_path / "versions" / "pool"
    with durable.new_folder(final) as fresh:
        (fresh / "file").write_text("x")
        assert not final.exists()
    assert names(final.parent) == ["pool"]
    assert names(final) == ["file"]
    assert final.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), OSError(errno.ENOSPC, "full")])
def test_a_new_folder_that_fails_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)), durable.new_folder(tmp_path / "pool") as fresh:
        (fresh / "below").mkdir()
        raise error
    assert names(tmp_path) == []


def test_a_new_folder_does_not_replace_another(tmp_path: Path) -> None:
    """Two that make the same folder: the first stands, the second fails and leaves nothing."""
    final = tmp_path / "pool"
    with pytest.raises(WorkspaceError, match="exists already"), durable.new_folder(final) as fresh:
        (fresh / "mine").write_text("")
        with durable.new_folder(final) as other:
            (other / "theirs").write_text("")
    assert names(tmp_path) == ["pool"]
    assert names(final) == ["theirs"]


def test_a_new_folder_may_replace_one_when_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the new one has the name, the one before is there with all that it holds."""
    final = tmp_path / "pool"
    final.mkdir()
    (final / "before").write_text("")
    with pytest.raises(OSError, match="full"), durable.new_folder(final, replace=True) as fresh:
        (fresh / "after").write_text("")
        raise OSError(errno.ENOSPC, "full")
    assert (names(tmp_path), names(final)) == (["pool"], ["before"])
    rename = os.rename
    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", lambda a, b: _refuse(errno.EIO)() if str(a).endswith(".tmp") else rename(a, b))
        with pytest.raises(StorageError), durable.new_folder(final, replace=True):
            pass
    assert (names(tmp_path), names(final)) == (["pool"], ["before"])
    with durable.new_folder(final, replace=True) as fresh:
        (fresh / "after").write_text("")
    assert (names(tmp_path), names(final)) == (["pool"], ["after"])


def test_a_new_folder_whose_rename_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "rename", _refuse(errno.EIO))
    with pytest.raises(StorageError), durable.new_folder(tmp_path / "pool"):
        pass
    assert names(tmp_path) == []


def test_killed_while_filling(tmp_path: Path) -> None:
    """After SIGKILL there is only a hidden folder, which nothing takes for the real one."""
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom pytest_staging import durable\n"
        "with durable.new_folder(Path(sys.argv[1])) as fresh:\n"
        "    (fresh / 'half').write_text('x')\n    print('filled', flush=True)\n    time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "pool")], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout
        assert wait_for(process.stdout.readline) == "filled\n"
        process.send_signal(signal.SIGKILL)
    (left,) = names(tmp_path)
    assert left.startswith(".pool.")
    assert left.endswith(".tmp")


def test_read_tail(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert durable.read_tail(path) == ""
    path.write_bytes(b"first\n" * 10_000 + b"\xff last\n")
    tail = durable.read_tail(path, lines=3)
    assert tail == "first\nfirst\n\N{REPLACEMENT CHARACTER} last"
    assert len(durable.read_tail(path, lines=100_000)) < 20_000
