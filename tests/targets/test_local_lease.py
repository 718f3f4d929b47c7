"""The host lease: one campaign at a time over processes, and nothing of a dead one is left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from workspaces import wait_for

from pytest_staging.model.errors import LeaseTimeout, StorageError
from pytest_staging.targets import procfs
from pytest_staging.targets.local import LEASE_MARK, LocalTarget, end_marked

HOLD = """
import sys
from pathlib import Path
from pytest_staging.model.ports import Command
from pytest_staging.targets.local import LocalTarget
target = LocalTarget()
with target.lease("campaign first", 20):
    here = Path(sys.argv[1])
    sleeper = "import os, time; print(os.getpid(), flush=True); time.sleep(300)"
    target.start(Command(argv=[sys.executable, "-c", sleeper], cwd=here, log=here / "service.log"))
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lease and runs a service, until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        with process:
            process.kill()
        end_marked(LEASE_MARK, str(Path(os.environ["STAGING_LEASE_FOLDER"]) / "local.lease"))


def service_pid(folder: Path) -> int:
    return int(wait_for(lambda: (folder / "service.log").read_text().strip()))


def test_it_is_exclusive(tmp_path: Path) -> None:
    """PT-04: a second campaign on the host waits, and is told who measures."""
    with holder(tmp_path) as first:
        message = rf"this host is measured by campaign first \(pid {first.pid}\); waited 0\.1 s\. Let it finish"
        with pytest.raises(LeaseTimeout, match=message) as caught, LocalTarget().lease("campaign second", 0.1):
            pytest.fail("the lease is held elsewhere")
        assert caught.value.exit_code == 1
        assert procfs.is_alive(service_pid(tmp_path)), "waiting touches nothing of the holder's"
        assert first.stdin
        first.stdin.close()
        with LocalTarget().lease("campaign second", 20):
            assert first.wait(20) == 0


def test_a_dead_holder(tmp_path: Path) -> None:
    """The kernel gives the lease back, and what the dead holder left running is ended before the next one measures."""
    with holder(tmp_path) as first:
        left = service_pid(tmp_path)
        first.kill()
        first.wait()
        assert procfs.is_alive(left), "the test proves something only while it lives"
        with LocalTarget().lease("campaign second", 20):
            assert not procfs.is_alive(left)


def test_the_same_process_twice(lease_folder: Path) -> None:
    """Two targets in one process exclude each other too; after the first, the second gets it."""
    with LocalTarget().lease("one", 1):
        assert json.loads((lease_folder / "local.holder").read_text()) == {"holder": "one", "pid": os.getpid()}
        with pytest.raises(LeaseTimeout, match="measured by one"), LocalTarget().lease("two", 0.05):
            pytest.fail("held")
    with LocalTarget().lease("two", 1):
        pass


@pytest.mark.parametrize("note", ["", "[]", "null", '"x"', "{}"])
def test_a_damaged_note(lease_folder: Path, note: str) -> None:
    """Who holds the lease is a courtesy; the lease does not depend on it."""
    with LocalTarget().lease("one", 1):
        (lease_folder / "local.holder").write_text(note)
        with pytest.raises(LeaseTimeout, match="measured by another campaign"), LocalTarget().lease("two", 0.05):
            pytest.fail("held")


def test_it_is_given_back_after_an_error() -> None:
    with pytest.raises(KeyboardInterrupt), LocalTarget().lease("one", 1):
        raise KeyboardInterrupt
    with LocalTarget().lease("two", 0.05):
        pass


def test_folders_are_separate(tmp_path: Path) -> None:
    with LocalTarget(tmp_path / "a").lease("one", 1), LocalTarget(tmp_path / "b").lease("two", 0.05):
        assert (tmp_path / "a" / "local.holder").is_file()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    target = LocalTarget(tmp_path / "file" / "below")
    with pytest.raises(StorageError, match=r"cannot make .*Name another with STAGING"), target.lease("one", 1):
        pytest.fail("no lease without a file")


def test_a_lease_file_that_is_none(tmp_path: Path) -> None:
    """What the file system answers becomes one clear error."""
    (tmp_path / "local.lease").mkdir()
    with pytest.raises(StorageError, match=r"cannot write .*local\.lease"), LocalTarget(tmp_path).lease("one", 1):
        pytest.fail("no lease without a file")


def test_somebody_elses_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In /tmp another user may have made it first, and could watch or block."""
    owner = tmp_path.stat().st_uid
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    with pytest.raises(StorageError, match="belongs to another user"), LocalTarget(tmp_path).lease("one", 1):
        pytest.fail("not our folder")
